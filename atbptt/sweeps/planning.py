"""From a command line to its jobs, all composed and checked before the first one starts.

Hydra would compose each job when it starts, and stop a sweep halfway at the first bad one. Here every job
of a sweep is composed and checked first, and what is wrong is said in one message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from atbptt import training  # loads torch where a name of it is used
from atbptt.config import (
    Command,
    Settings,
    build_policy,
    check_components,
    composer,
    expanded,
    flattened,
    job_configs,
    launcher_options,
    read_command,
    typed,
)
from atbptt.errors import ConfigError, listed
from atbptt.runs import Job, RunDirectory
from atbptt.system import check_writable
from atbptt.truncation import Policy
from atbptt.windows import check_scheme

# Of conf/hydra/launcher/: how many jobs run at once where nothing is said. It asks torch for GPUs, so no sooner.
OmegaConf.register_new_resolver("parallel_jobs", lambda *options: training.parallel_jobs(*options), replace=True)

ON_A_CLUSTER = "atbptt.sweeps.slurm.launcher.SlurmLauncher"
# What does not decide whether the parts can be built and fit together; of the policy, what it asks of a probe does.
BESIDES_PARTS = {
    *("init", "lr", "lr_scaling", "lr_decay", "clip_norm", "scheme", "epochs", "seconds", "evaluate_every"),
    *("output_dir", "name", "device", "truncation"),
}


@dataclass(frozen=True)
class Composed:
    """The jobs of a command line, composed and typed.

    Attributes:
        command: the command line, taken apart.
        batch: the overrides of each job.
        settings: of each job; the classes that they name are not looked at yet, but for the policy's.
        policies: those of all jobs, see `_policy_key`.
        shared: the composed config of what all jobs share, with Hydra's own part.
    """

    command: Command
    batch: list[list[str]]
    settings: list[Settings]
    policies: dict[str, Policy]
    shared: DictConfig


@dataclass(frozen=True)
class Plan:
    """What a command line asks for.

    Attributes:
        jobs: all its runs, in the order of the sweep.
        ahead: those of them that had not reached their budget when they were planned.
        command: the command line, taken apart.
        local: whether the runs compute on this machine, and not where a cluster sends them.
    """

    jobs: list[Job]
    ahead: list[Job]
    command: Command
    local: bool

    @property
    def preview(self) -> bool:
        """Whether they are to be shown only."""
        return self.command.preview


def compose(arguments: Sequence[str], config_dir: Path) -> Composed | None:
    """Compose the jobs of a command line, and check all that needs no torch, which takes seconds to import.

    Arguments:
        arguments: of the command line.
        config_dir: folder of the primary config.

    Returns:
        None where the command line runs nothing (`--help`, `--cfg`, ...).

    Raises:
        ConfigError: something in the config is wrong.
    """
    command = read_command(arguments, config_dir)
    if command is None:
        return None
    with composer(command.config_dir, command.extra) as hydra:
        batch, shared = expanded(hydra, command)
        settings = [typed(config) for config in job_configs(hydra, command.name, batch)]
    policies: dict[str, Policy] = {}
    for each in settings:
        key = _policy_key(each)
        if key not in policies:
            policies[key] = build_policy(each)
        check_scheme(policies[key], each.scheme)
    return Composed(command, batch, settings, policies, shared)


def plan(composed: Composed, prepare: Callable[[Plan], object] = lambda _: None) -> Plan:
    """The jobs of a command line, checked.

    Arguments:
        composed: the command line.
        prepare: called with the plan before what is ahead is checked, which takes a while.

    Raises:
        ConfigError: something in the config, or in what it asks for, is wrong.
    """
    launcher = launcher_options(composed.shared)
    for each in composed.settings:
        check_components(each)
    batch = composed.batch
    common = set.intersection(*(set(overrides) for overrides in batch)) if len(batch) > 1 else set()
    labels = [" ".join(o for o in overrides if o not in common) or "defaults" for overrides in batch]
    made = zip(labels, batch, composed.settings, strict=True)
    jobs = _distinct([Job(label, overrides, each, RunDirectory(each)) for label, overrides, each in made])
    ahead = [job for job in jobs if not job.directory.finished()]
    found = Plan(jobs, ahead, composed.command, launcher["_target_"] != ON_A_CLUSTER)
    prepare(found)
    _check(ahead, found.local, composed.policies)
    return found


def _distinct(jobs: list[Job]) -> list[Job]:
    """The jobs, each run once.

    Raises:
        ConfigError: two of them are the same run, and ask for something else of it.
    """
    found: dict[Path, Job] = {}
    for job in jobs:
        same = found.setdefault(job.directory.path, job)
        if same.settings != job.settings:
            ours, its = (dict(flattened(each.settings.model_dump())) for each in (job, same))
            differ = listed(name for name in ours if ours[name] != its.get(name))
            rule = f"are the same run with another {differ}: a sweep may name each run once"
            raise ConfigError(f"'{same.label}' and '{job.label}'", rule)
    return list(found.values())


def _check(jobs: list[Job], local: bool, policies: dict[str, Policy]) -> None:
    """Build what the jobs would build, and look where they would write."""
    for device in dict.fromkeys(job.settings.device for job in jobs if local):
        training.check_device(device.type, device.threads)
    by_data: dict[str, list[Settings]] = {}
    for job in jobs:
        by_data.setdefault(_canonical(job.settings.dataset), []).append(job.settings)
    for those in by_data.values():
        _check_parts(those, policies)
    parents: set[Path] = set()
    for path in (job.directory.path for job in jobs):
        if path.parent not in parents or path.exists():
            check_writable("output_dir", path)
        parents.add(path.parent)


def _check_parts(runs: list[Settings], policies: dict[str, Policy]) -> None:
    """Build the parts of runs that read the same data: the data once, and each kind of the rest."""
    task = training.build_task(runs[0])
    seen: set[tuple[str, str]] = set()
    for settings in runs:
        policy = policies[_policy_key(settings)]
        asks = repr((policy.estimator, policy.confidence))
        parts = (settings.model_dump_json(exclude=BESIDES_PARTS), asks)
        if parts not in seen:
            training.build(settings, task)
            seen.add(parts)


def _policy_key(settings: Settings) -> str:
    return _canonical([settings.truncation, settings.seed])


def _canonical(node: object) -> str:
    return json.dumps(node, sort_keys=True, default=str)
