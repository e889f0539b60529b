"""From a command line to its jobs, all composed and checked before the first one starts.

Hydra would compose each job when it starts, and stop a sweep halfway at the first bad one. Here every job
of a sweep is composed and checked first, and what is wrong is said in one message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atbptt.config import Command, Settings, composer, expanded, flattened, job_configs, read_command, validated
from atbptt.errors import ConfigError, listed
from atbptt.runs import RunDirectory
from atbptt.system import check_writable
from atbptt.training import build, build_policy, build_task, check_device
from atbptt.truncation import Policy
from atbptt.windows import check_scheme

ON_A_CLUSTER = "atbptt.sweeps.slurm.launcher.SlurmLauncher"
# What does not decide whether the parts can be built and fit together; of the policy, what it asks of a probe does.
BESIDES_PARTS = {
    *("init", "lr", "lr_scaling", "lr_decay", "clip_norm", "scheme", "epochs", "seconds", "evaluate_every"),
    *("output_dir", "name", "device", "truncation"),
}


@dataclass(frozen=True)
class Job:
    """One run of a command line.

    Attributes:
        label: the overrides that tell it from the others, as typed.
        overrides: all of them.
        settings: its checked config.
        directory: where it stores what it finds.
    """

    label: str
    overrides: list[str]
    settings: Settings
    directory: RunDirectory


@dataclass(frozen=True)
class Plan:
    """What a command line asks for.

    Attributes:
        jobs: all its runs, in the order of the sweep.
        ahead: those of them that had not reached their budget when they were planned.
        command: the command line, taken apart.
        local: whether the runs compute on this machine, and not where a cluster sends them.
        preview: whether they are to be shown only.
    """

    jobs: list[Job]
    ahead: list[Job]
    command: Command
    local: bool
    preview: bool


def plan(
    arguments: Sequence[str], config_dir: Path, composed: Callable[[Plan], object] = lambda _: None
) -> Plan | None:
    """The jobs of a command line, checked; None where it runs nothing (`--help`, `--cfg`, ...).

    Arguments:
        arguments: of the command line.
        config_dir: folder of the primary config.
        composed: called with the plan before what is ahead is checked, which takes a while.

    Raises:
        ConfigError: something in the config, or in what it asks for, is wrong.
    """
    command = read_command(arguments, config_dir)
    if command is None:
        return None
    with composer(command.config_dir, command.extra) as hydra:
        batch, launcher = expanded(hydra, command)
        settings = [validated(config) for config in job_configs(hydra, command.name, batch)]
    common = set.intersection(*(set(overrides) for overrides in batch)) if len(batch) > 1 else set()
    labels = [" ".join(o for o in overrides if o not in common) or "defaults" for overrides in batch]
    made = zip(labels, batch, settings, strict=True)
    jobs = _distinct([Job(label, overrides, each, RunDirectory(each)) for label, overrides, each in made])
    ahead = [job for job in jobs if not job.directory.finished()]
    found = Plan(jobs, ahead, command, launcher["_target_"] != ON_A_CLUSTER, command.preview)
    composed(found)
    _check(ahead, found.local)
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


def _check(jobs: list[Job], local: bool) -> None:
    """Build what the jobs would build, and look where they would write."""
    for device in dict.fromkeys(job.settings.device for job in jobs if local):
        check_device(device.type, device.threads)
    by_data: dict[str, list[Settings]] = {}
    for job in jobs:
        by_data.setdefault(_canonical(job.settings.dataset), []).append(job.settings)
    for those in by_data.values():
        _check_parts(those)
    parents: set[Path] = set()
    for path in (job.directory.path for job in jobs):
        if path.parent not in parents or path.exists():
            check_writable("output_dir", path)
        parents.add(path.parent)


def _check_parts(runs: list[Settings]) -> None:
    """Build the parts of runs that read the same data: the data once, each policy, and each kind of the rest."""
    task = build_task(runs[0])
    policies: dict[str, Policy] = {}
    seen: set[tuple[str, str]] = set()
    for settings in runs:
        described = _canonical([settings.truncation, settings.seed])
        if described not in policies:
            policies[described] = build_policy(settings)
        policy = policies[described]
        check_scheme(policy, settings.scheme)
        asks = repr((policy.estimator, policy.confidence))
        parts = (settings.model_dump_json(exclude=BESIDES_PARTS), asks)
        if parts not in seen:
            build(settings, task)
            seen.add(parts)


def _canonical(node: object) -> str:
    return json.dumps(node, sort_keys=True, default=str)
