"""From a command line to the list of its jobs, all composed and checked before the first one starts.

Hydra would compose each job when it starts, and stop a sweep halfway at the first bad one. Here every job
of a sweep is composed and checked first, and what is wrong is said in one message.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atbptt.config import Settings, validated
from atbptt.datasets.task import Task
from atbptt.devices import check_device
from atbptt.errors import ConfigError, did_you_mean, listed, show
from atbptt.experiment import build, build_task
from atbptt.files import check_writable
from atbptt.runs import RunDirectory

CONFIG_NAME = "config"
PLAN_VARIABLE = "ATBPTT_PLAN"
# Flags that show something and run nothing.
SHOWING = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")


@dataclass(frozen=True)
class Job:
    """One run of a command line.

    Attributes:
        label: the overrides that tell it from the others, as typed.
        settings: its checked config.
        directory: where it stores what it finds.
    """

    label: str
    settings: Settings
    directory: RunDirectory


def plan(arguments: Sequence[str], config_dir: Path) -> list[Job] | None:
    """The jobs of a command line, checked; None where it runs nothing (`--help`, `--cfg`, ...).

    Raises:
        ConfigError: something in the config, or in what it asks for, is wrong.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parsed = parser.parse_args(list(arguments))
    if any(getattr(parsed, flag) for flag in SHOWING):
        return None
    extra = Path(parsed.config_dir).absolute() if parsed.config_dir else None
    if extra is not None and not extra.is_dir():
        raise ConfigError("--config-dir", f"(={parsed.config_dir}) is no folder")
    name = parsed.config_name or CONFIG_NAME
    base = Path(parsed.config_path) if parsed.config_path else config_dir
    base = base if base.is_absolute() else config_dir.parent / base
    with composer(base, extra) as hydra:
        batch = _expanded(hydra, name, parsed.overrides, parsed.multirun)
        composed = [validated(job_config(hydra, name, overrides)) for overrides in batch]
    common = set.intersection(*(set(overrides) for overrides in batch)) if len(batch) > 1 else set()
    labels = [" ".join(o for o in overrides if o not in common) or "defaults" for overrides in batch]
    jobs = [Job(label, settings, RunDirectory(settings)) for label, settings in zip(labels, composed, strict=True)]
    _check(jobs)
    return jobs


@contextmanager
def shared_plan(jobs: list[Job]) -> Iterator[None]:
    """Within, the processes that this one starts find the jobs' settings (see `planned_settings`).

    Hydra composes a job's config anew when the job starts; what was checked is what must run, however the YAML
    files have changed since.
    """
    with tempfile.TemporaryDirectory(prefix="atbptt-plan-") as folder:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps([job.settings.model_dump() for job in jobs]))
        os.environ[PLAN_VARIABLE] = str(path)
        try:
            yield
        finally:
            del os.environ[PLAN_VARIABLE]


def planned_settings(number: int) -> Settings | None:
    """The settings of a job by its number, or None where no plan can be read, as on another machine."""
    try:
        plans = json.loads(Path(os.environ[PLAN_VARIABLE]).read_text())
    except (KeyError, OSError):
        return None
    return validated(plans[number])


def _refuse(message: str) -> NoReturn:
    raise ConfigError("command line:", f"{message}; flags such as -m come first, see python launch.py --help")


@contextmanager
def composer(config_dir: Path, extra: Path | None = None) -> Iterator[Hydra]:
    """Hydra, ready to compose from `config_dir` and, before it, `extra`."""
    GlobalHydra.instance().clear()
    setup_globals()
    search_path = create_config_search_path(str(config_dir))
    if extra is not None:  # as Hydra's own --config-dir
        search_path.prepend("command-line", f"file://{extra}", SearchPathQuery(provider="schema"))
    try:
        yield Hydra.create_main_hydra2(task_name="launch", config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()


def _expanded(hydra: Hydra, name: str, overrides: list[str], multirun: bool) -> list[list[str]]:
    """The overrides of each job."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    try:
        parsed = parser.parse_overrides(overrides)
    except HydraException as error:
        raise _explained(error, hydra, name, overrides) from error
    for override in parsed:
        options = hydra.config_loader.get_group_options(override.key_or_group)
        chosen = override.value() if not (override.is_sweep_override() or override.is_delete()) else ""
        if options and not isinstance(chosen, str | list | dict):
            raise ConfigError(override.key_or_group, f"(={show(chosen)}) must be one of {listed(options)}")
    plain = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
    try:
        config = _composed(hydra, name, plain)  # as Hydra does before it expands a sweep
    except ConfigError as error:
        group = error.name.partition(".")[0]
        if not any(o.is_sweep_override() and o.key_or_group == group for o in parsed):
            raise
        hint = f"{group} is swept: {error.name}='choice(VALUE)' sets it in every job"
        raise ConfigError(error.name, f"{error.rule}; {hint}") from error
    if not (multirun or config.hydra.mode == RunMode.MULTIRUN):
        swept = [str(o.input_line) for o in parsed if o.is_sweep_override()]
        if swept:
            raise ConfigError(swept[0], "names several values, a sweep: add -m, as in python launch.py -m ...")
        return [overrides]
    if OmegaConf.select(config, "hydra.launcher.n_jobs") == 0:
        raise ConfigError("hydra.launcher.n_jobs", "(=0) must be at least 1 job at once, or -1 for one a core")
    sweeper = config.hydra.sweeper._target_
    if not sweeper.endswith("BasicSweeper"):
        rule = f"(={sweeper}) decides on jobs as it goes; only basic is supported, whose jobs are checked beforehand"
        raise ConfigError("hydra/sweeper", rule)
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    try:
        batches = BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)
    except HydraException as error:
        raise _explained(error, hydra, name, overrides) from error
    if not batches[0]:
        empty = [str(o.input_line) for o in parsed if o.is_sweep_override() and not list(o.sweep_string_iterator())]
        raise ConfigError(" ".join(empty), "names no value: there is nothing to run")
    return batches[0]


def _composed(hydra: Hydra, name: str, overrides: list[str]) -> DictConfig:
    try:
        return hydra.compose_config(name, overrides, RunMode.RUN, from_shell=True, with_log_configuration=False)
    except Exception as error:  # besides Hydra's own: a YAML error, a null where a group's option belongs, ...
        raise _explained(error, hydra, name, overrides) from error


def job_config(hydra: Hydra, name: str, overrides: list[str]) -> dict[str, Any]:
    """A job's config without Hydra's part, as plain containers, interpolations resolved."""
    config = _composed(hydra, name, overrides)
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            str(error.full_key or "config"), f"cannot be resolved: {str(error.msg).splitlines()[0]}"
        ) from error
    return {str(key): value for key, value in dict(resolved).items()}  # type: ignore[arg-type]


def _explained(error: Exception, hydra: Hydra, name: str, overrides: list[str]) -> ConfigError:
    """Hydra's error in our words: what was typed, what there is, what was probably meant."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or [])
        there = f"the options are {listed(options)}" if options else "there are none"
        return ConfigError(
            group or "--config-name", f"(={option}) is no option{did_you_mean(option, options)}; {there}"
        )
    if isinstance(error, OverrideParseException):
        return ConfigError(f"'{error.override}'", "cannot be read: options are given as key=value")
    match = re.search(r"Could not (?:override|delete from config\. ?)? ?'([^']*)'", text)
    if match:
        key = match[1]
        parent, _, leaf = key.rpartition(".")
        try:
            groups = [o for o in overrides if o.partition("=")[0] in hydra.list_all_config_groups()]
            whole = hydra.compose_config(name, groups, RunMode.RUN, with_log_configuration=False)
            section = OmegaConf.select(whole, parent) if parent else whole
            choice = whole.hydra.runtime.choices.get(parent)
            hidden = ("hydra", "_target_", *(["name"] if parent else []))
            names = [str(k) for k in section if k not in hidden] if section else []
        except (HydraException, OmegaConfBaseException):
            names, choice = [], None
        of = f"of {parent}={choice} " if choice else ""
        known = f"; the options {of}are {listed(names)}" if names else ""
        return ConfigError(key, f"is no option{did_you_mean(leaf, names)}{known}")
    return ConfigError("config", f"cannot be composed: {text}")


def _check(jobs: list[Job]) -> None:
    """Build what each job would build, the data of several jobs once, and look where they would write."""
    tasks: dict[str, Task] = {}
    seen: set[str] = set()
    for settings in (job.settings for job in jobs):
        check_device(settings.device.type, settings.device.threads)
        # What is left out does not decide whether the parts can be built and fit together.
        built = settings.model_dump_json(exclude={"init", "lr", "epochs", "seconds", "output_dir", "name"})
        if built in seen:
            continue
        seen.add(built)
        data = json.dumps(settings.dataset, sort_keys=True, default=str)
        if data not in tasks:
            tasks = {data: build_task(settings)}  # the last one only: data may be large
        build(settings, tasks[data])
    for job in jobs:
        check_writable("output_dir", job.directory.path)
