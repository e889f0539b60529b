"""From a command line to its jobs, all composed and checked before the first one starts.

Hydra would compose each job when it starts, and stop halfway through a sweep at the first bad one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from atbptt import config, training  # training loads torch when a name of it is used
from atbptt.config import Command, ConfigFile, Settings
from atbptt.errors import ConfigError, in_one_line, listed, require
from atbptt.runs import Job, RunDirectory, schema
from atbptt.sweeps.slurm.queue import check_slurm
from atbptt.sweeps.space import Space, read_space
from atbptt.system import available_cores, check_writable
from atbptt.truncation import BEYOND_ANY_STREAM, Policy
from atbptt.windows import check_scheme, full_lr

if TYPE_CHECKING:
    from atbptt.datasets import Task

AT_ONCE = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"  # starts all jobs at once
ON_A_CLUSTER = "atbptt.sweeps.slurm.launcher.SlurmLauncher"
# Settings with which the parts are built and checked alike; of the policy, only what it asks of a probe matters.
BESIDES_PARTS = {
    *("init", "lr", "lr_scaling", "clip_norm", "scheme", "epochs", "seconds", "patience", "evaluate_every"),
    *("output_dir", "name", *config.NOTED, "device", "truncation"),
}
NOTES = re.compile(rf"\+*({'|'.join(config.NOTED)})=")  # overrides that tell no run from another


@dataclass(frozen=True)
class Composed:
    """The jobs of a command line, of whose classes only the policies are checked."""

    command: Command
    batch: list[list[str]]  # the overrides of each job
    remarks: list[str]  # which options count for some of the jobs only
    settings: list[Settings]  # of each job
    files: list[list[ConfigFile]]  # of --config-dir in each job's config
    policies: dict[str, Policy]  # of all jobs, by `_policy_key`
    parts: list[dict[str, Any]]  # Hydra's part of each job's config
    shared: DictConfig  # the composed config that all jobs share, with Hydra's part
    made: config.Shared  # composes further jobs, of a search
    space: Space | None = None  # of a search, whose jobs here are the corners of its space, or those of a trial


@dataclass(frozen=True)
class Plan:
    """The checked jobs of a command line."""

    jobs: list[Job]  # by init, else in the order of the sweep: half a sweep then has all settings, with half the inits
    ahead: list[Job]  # those that had not reached their budget when they were planned; with rerun=true, all
    command: Command
    local: bool  # whether they run on this machine instead of a cluster
    remarks: list[str] = field(default_factory=list)  # on what the jobs are made of


def compose(arguments: Sequence[str], config_dir: Path) -> Composed | None:
    """Compose the jobs of a command line, and check what needs no torch, which takes seconds to import (ConfigError).

    Returns None if the command line runs nothing (`--help`, `--cfg`, ...).
    """
    command = config.read_command(arguments, config_dir)
    if command is None:
        return None
    with config.composer(command.config_dir, command.extra) as hydra:
        batch, shared, kept = config.expanded(hydra, command)
        part = config.hydra_part(shared, command.multirun)
        config.check_hydra(part, command.overrides)
        space = None if batch else read_space(hydra, command, shared)
        batch = batch if space is None else space.corners()
        found = compose_jobs(config.Shared(hydra, command), batch, shared)
    for its, label in zip(found.parts, differences(found.batch), strict=True):
        config.check_same(part, its, label)
    return replace(found, command=replace(command, overrides=kept), space=space)


def compose_jobs(
    made: config.Shared, batch: list[list[str]], shared: DictConfig, others: Sequence[list[str]] = ()
) -> Composed:
    """Compose the jobs with these overrides; `others` only tell which options there are (ConfigError)."""
    narrowed, remarks = config.narrowed(made, [*batch, *others])
    batch = narrowed[: len(batch)]
    with config.environment(shared):
        settings = [config.typed(made.config(each)) for each in batch]
    files = [made.files(each) for each in batch]
    parts = [made.part(each) for each in batch]
    policies: dict[str, Policy] = {}
    for each, overrides, part in zip(settings, batch, parts, strict=True):
        key = _policy_key(each)
        if key not in policies:
            try:
                with config.as_job(each.model_dump(), config.hydra_of(part, overrides)):
                    policies[key] = config.build_policy(each)
            except ConfigError as error:
                raise config.beside_policy(error, overrides) from error
        check_scheme(policies[key], each.scheme, each.phase)
        config.check_probing(each, policies[key])
    return Composed(made.command, batch, remarks, settings, files, policies, parts, shared, made)


def plan(
    composed: Composed, prepare: Callable[[Plan], object] = lambda _: None, tasks: "dict[str, Task] | None" = None
) -> Plan:
    """Check the jobs of a command line by building their parts (ConfigError).

    Arguments:
        prepare: called before that.
        tasks: of the data sets of earlier calls, to which those of this one are added.
    """
    with config.environment(composed.shared):
        launcher = config.launcher_options(composed.shared)
        config.check_plugin("hydra.launcher", launcher)
        jobs = jobs_of(composed)
        ahead = [job for job in jobs if composed.command.rerun or not job.directory.finished()]
        if composed.space is None:
            check_launcher(launcher, ahead, composed.command.preview)
        replaced = dict.fromkeys(str(file) for job in jobs for file in job.files if file.replaces)
        remarks = [*replaced, *composed.remarks]
        found = Plan(jobs, ahead, composed.command, launcher["_target_"] != ON_A_CLUSTER, remarks)
        prepare(found)
        _check(found, composed.policies, {} if tasks is None else tasks)
        return found


def check_launcher(launcher: Mapping[str, Any], ahead: Sequence[Job], preview: bool) -> None:
    """Raise a `ConfigError` if a launcher cannot run these jobs; a preview needs no cluster."""
    if launcher["_target_"] == AT_ONCE:
        cores, chosen = available_cores(), f"submitit_local, for {len(ahead)} runs"
        rule = f"starts all runs at once, so there must be no more than cores (={cores}); choose joblib"
        require(len(ahead) <= cores, "hydra/launcher", chosen, rule)
    if launcher["_target_"] == ON_A_CLUSTER and ahead and not preview:
        check_slurm(launcher, max(job.settings.device.threads for job in ahead))


def jobs_of(composed: Composed) -> list[Job]:
    """The jobs, each once, by init (ConfigError)."""
    for each in composed.settings:
        config.check_components(each)
    directories = map(RunDirectory, composed.settings)
    parts = (composed.batch, composed.settings, directories, composed.files, composed.parts)
    jobs = _distinct([Job(*made) for made in zip(_labels(composed), *parts, strict=True)])
    return sorted(jobs, key=lambda job: job.settings.init)


def _labels(composed: Composed) -> list[str]:
    """Each job's overrides that are not those of all, and its learning rate where that is not the one typed.

    One that is typed once for all, and in force in all, is left out with what they have in common.
    """
    batch = composed.batch
    common = _common(batch)
    labels = differences(batch)
    rates = []
    for overrides, settings in zip(batch, composed.settings, strict=True):
        policy = composed.policies[_policy_key(settings)]
        K = policy.K if policy.base is None else policy.base
        lr = full_lr(settings.lr, settings.lr_scaling, policy, policy.K)
        typed = any(o.lstrip("+").startswith("lr=") for o in overrides)
        other = typed and lr != settings.lr and K < BEYOND_ANY_STREAM
        rates.append(f" (lr in force {lr:.3g} at K={K:g})" if other else "")
    shared = len(set(rates)) == 1 and any(o.startswith("lr=") for o in common)
    return labels if shared else [label + rate for label, rate in zip(labels, rates, strict=True)]


def _common(batch: list[list[str]]) -> set[str]:
    """The overrides of all jobs, where there are several."""
    return set.intersection(*map(set, batch)) if len(batch) > 1 else set()


def differences(batch: list[list[str]]) -> list[str]:
    """What tells each job from the others."""
    common = _common(batch)
    shown = (" ".join(o for o in overrides if o not in common and not NOTES.match(o)) for overrides in batch)
    return [in_one_line(label) or "defaults" for label in shown]


def _distinct(jobs: list[Job]) -> list[Job]:
    """The jobs, each once (ConfigError if two are the same run with different settings)."""
    found: dict[Path, Job] = {}
    for job in jobs:
        same = found.setdefault(job.directory.path, job)
        if same.settings != job.settings:
            ours, its = (dict(config.flattened(each.settings.model_dump())) for each in (job, same))
            differ = listed(name for name in ours if ours[name] != its.get(name))
            rule = f"are the same run with another {differ}: a sweep may name each run once"
            raise ConfigError(f"'{same.label}' and '{job.label}'", rule)
    return list(found.values())


def _check(plan: Plan, policies: dict[str, Policy], tasks: "dict[str, Task]") -> None:
    """Build once what the jobs ahead will build, data first, and check that they can write (ConfigError)."""
    for device in dict.fromkeys(job.settings.device for job in plan.ahead if plan.local):
        training.check_device(device.type, device.threads)
    by_data: dict[str, dict[int, Job]] = {}
    for number, job in enumerate(plan.ahead):
        by_data.setdefault(_canonical(job.settings.dataset), {})[number] = job
    for numbered in by_data.values():
        seen: set[tuple[str, str]] = set()
        longest = sorted(numbered, key=lambda n: -policies[_policy_key(numbered[n].settings)].K)
        for number in longest:  # of equal parts, the one that takes the most memory
            job = numbered[number]
            settings = job.settings
            policy = policies[_policy_key(settings)]
            asks = repr((policy.estimator, policy.confidence, policy.noise, settings.device.type))
            parts = (settings.model_dump_json(exclude=BESIDES_PARTS), asks)
            if parts not in seen:
                with config.as_job(settings.model_dump(), job.hydra_part(number)):
                    training.build(settings, task_of(settings, tasks), here=plan.local)
                seen.add(parts)
    parents: set[Path] = set()
    for path in (job.directory.path for job in plan.ahead):
        if path.parent not in parents or path.exists():
            check_writable("output_dir", path)
        parents.add(path.parent)
    for folder in dict.fromkeys(job.settings.output_dir for job in plan.ahead):
        check_writable("output_dir", Path(folder, schema.SWEEPS))


def task_of(settings: Settings, tasks: "dict[str, Task]") -> "Task":
    """A run's data set, built unless one with these options is among `tasks`, where it is kept (ConfigError)."""
    key = _canonical(settings.dataset)
    if key not in tasks:
        tasks[key] = training.build_task(settings)
    return tasks[key]


def _policy_key(settings: Settings) -> str:
    return _canonical([settings.truncation, settings.seed])


def _canonical(node: object) -> str:
    return json.dumps(node, sort_keys=True, default=str)
