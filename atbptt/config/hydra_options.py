"""Hydra's part of a config: which of its options count here, and what it is for each job (HydraConfig, env_set)."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.types import RunMode
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from atbptt.config.components import locate
from atbptt.config.settings import flattened
from atbptt.errors import ConfigError, did_you_mean, listed, require, show

OF_HYDRA = re.compile(r"[+~]*hydra[./@]")  # an override of Hydra's own options
REFERENCE = re.compile(r"\$\{hydra:\s*([\w./@]+)\s*\}")
FOLDERS = "runs are stored in output_dir/name/experiment_id and sweeps in output_dir/.sweeps: set output_dir or name"
LOGGING = "what a run prints is in its output.txt: set up Python's logging in a class of your own"
BY_LAUNCH = "the launcher sets it"
NOT_OURS = "the defaults of your primary config must have `hydra: default`, or begin with `config`"
SILENT = {"version": 1, "root": {"level": "ERROR"}, "disable_existing_loggers": True}  # hydra/job_logging=disabled
# Options of Hydra that would change nothing here: the only value that each may have, and what to do instead.
FIXED: dict[str, tuple[Any, str]] = {
    "run.dir": ("${output_dir}/${name}", FOLDERS),
    "sweep.dir": ("${output_dir}/.sweeps", FOLDERS),
    "sweep.subdir": (".", FOLDERS),
    "output_subdir": (None, "each run stores its config.yaml in its own directory"),
    "job.chdir": (False, "relative paths are relative to where you are; HydraConfig has the run's runtime.output_dir"),
    "job.num": (MISSING, BY_LAUNCH),
    "job.id": (MISSING, BY_LAUNCH),
    "runtime.output_dir": (MISSING, FOLDERS),
    "sweeper.max_batch_size": (None, "the launcher gets all jobs at once: set hydra.launcher.n_jobs"),
    "hydra_logging": (SILENT, LOGGING),
    "job_logging": (SILENT, LOGGING),
    "verbose": (False, LOGGING),
    "env": ({}, "set environment variables with +hydra.job.env_set.NAME=VALUE"),
}
OVERWRITTEN = re.compile(r"hydra\.(overrides|runtime|job\.override_dirname|job\.config_name)\b")  # by Hydra itself
BY_JOB = re.compile(r"overrides\.|runtime\.|job\.override_dirname")  # differ between the jobs of a sweep


def hydra_part(config: DictConfig, multirun: bool) -> dict[str, Any]:
    """Hydra's part of a composed config as plain containers, interpolations not resolved, without its help texts."""
    mode = RunMode.MULTIRUN if multirun or config.hydra.mode == RunMode.MULTIRUN else RunMode.RUN
    part: Any = OmegaConf.to_container(config.hydra, resolve=False, enum_to_str=True)
    return {key: part[key] for key in part if key not in ("help", "hydra_help")} | {"mode": mode.name}


def check_hydra(part: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise a `ConfigError` for an option of Hydra that does not exist, is not valid, or would be ignored."""
    for text in overrides:
        name, _, value = text.lstrip("+~").partition("=")
        require(not OVERWRITTEN.match(name), name, value, "cannot be set: Hydra sets it itself")
        chosen = not name.startswith("hydra/") or part["runtime"]["choices"].get(name) or value == "null"
        require(chosen, name, value, f"is no option: there is no {name}/{value}.yaml")
    known: Any = OmegaConf.to_container(OmegaConf.structured(HydraConf))
    del known["defaults"]
    _check_names(part, {**known, "env": {}}, "hydra")
    for name, (only, reason) in FIXED.items():
        given: Any = part
        for key in name.split("."):
            given = given.get(key) if isinstance(given, Mapping) else None
        shown = part["runtime"]["choices"].get(f"hydra/{name}", given)  # of a whole group, the name of the choice
        reason = reason if "hydra" in part["runtime"]["choices"] else NOT_OURS
        require(given == only, f"hydra.{name}", shown, f"would be ignored: {reason}")
    for name, value in part["job"]["env_set"].items():
        fits = name and not set("=\0") & set(name) and "\0" not in value
        require(fits, "hydra.job.env_set", f"{name}={value}", "must be the name and value of an environment variable")
    check_plugin("hydra.sweeper", part["sweeper"])
    for name, callback in part["callbacks"].items():
        check_plugin(f"hydra.callbacks.{name}", callback)


def check_plugin(name: str, options: Any) -> None:
    """Raise a `ConfigError` unless the `_target_` of a launcher, sweeper or callback takes its other options."""
    target = options.get("_target_") if isinstance(options, Mapping) else None
    if not isinstance(target, str):
        raise ConfigError(name, f"(={show(options)}) must have a _target_ that names a class")
    located = locate(name, target)
    try:
        signature = inspect.signature(located)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}._target_", f"(={show(target)}) does not tell what arguments it takes") from error
    given = {key: options[key] for key in options if not key.startswith("_")}
    known = signature.parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for key, value in given.items():
            rule = f"is no option{did_you_mean(key, known)}; the options are {listed(known)}"
            require(key in known, f"{name}.{key}", value, rule)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ConfigError(name, f"does not fit {target}: {error}") from error


def launcher_options(config: DictConfig) -> dict[str, Any]:
    """The launcher's options, with `_target_` (ConfigError)."""
    node = config.hydra.launcher
    require(isinstance(node, DictConfig), "hydra.launcher", node, "must have a _target_ that names a class")
    options = plain(node)
    jobs = options.get("n_jobs", 1)
    fits = type(jobs) is int and (jobs >= 1 or jobs == -1)
    rule = "must be at least 1 job at once, or -1 for as many as GPUs or cores allow"
    require(fits, "hydra.launcher.n_jobs", jobs, rule)
    if options.get("_target_") == JobLibLauncherConf._target_:
        for option in fields(JobLibLauncherConf):
            value = options[option.name]
            rule = "is about joblib's worker processes, and here each run has a process of its own: only n_jobs counts"
            require(option.name == "n_jobs" or value == option.default, f"hydra.launcher.{option.name}", value, rule)
    return options


def plain(config: DictConfig) -> dict[str, Any]:
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise unresolved(error) from error
    except RecursionError as error:
        raise ConfigError("config", "cannot be resolved: values are nested too deep") from error
    return {str(key): value for key, value in dict(resolved).items()}  # type: ignore[arg-type]


def unresolved(error: OmegaConfBaseException) -> ConfigError:
    """The error of a value that refers to what is not there."""
    return ConfigError(
        str(error.full_key or "config"), f"cannot be resolved: {str(error.msg or error).splitlines()[0]}"
    )


def check_same(shared: Mapping[str, Any], part: Mapping[str, Any], label: str) -> None:
    """Raise a `ConfigError` if a job's part has other options than that of the sweep, which alone counts."""
    ours, its = (dict(flattened(each)) for each in (part, shared))
    groups = [part["runtime"]["choices"], shared["runtime"]["choices"]]
    differ = [group for group in groups[0] if group.startswith("hydra/") and groups[0][group] != groups[1].get(group)]
    names = (name for name in sorted({*ours, *its}) if not BY_JOB.match(name))
    differ += [f"hydra.{name}" for name in names if ours.get(name) != its.get(name)]
    if differ:
        value = groups[0].get(differ[0], ours.get(differ[0].removeprefix("hydra.")))
        rule = f"is chosen by '{label}', which is swept: set it for all jobs on the command line"
        require(False, differ[0], value, rule)


def hydra_of(
    shared: Mapping[str, Any], overrides: Sequence[str], number: int | None = None, directory: Path | None = None
) -> dict[str, Any]:
    """A job's part, as JSON takes it, from that of its choices of groups (`hydra_part`).

    Arguments:
        shared: left unchanged; the job's part has most of its containers.
        overrides: the job's, with or without Hydra's own.
        number: `hydra.job.num`, its number among those that are launched; None while that is unknown.
        directory: of its run, `hydra.runtime.output_dir`; None while that is unknown.
    """
    task = [text for text in overrides if not OF_HYDRA.match(text)]
    names = shared["job"]["config"]["override_dirname"]
    named = sorted(text for text in task if text.lstrip("+~").partition("=")[0] not in names["exclude_keys"])
    dirname = names["item_sep"].join(named).replace("=", names["kv_sep"])
    job: dict[str, Any] = {"override_dirname": dirname}
    if number is not None:
        job |= {"num": number, "id": str(number)}
    runtime = {} if directory is None else {"output_dir": str(directory.absolute())}
    return {
        **shared,
        "overrides": {**shared["overrides"], "task": task},
        "job": {**shared["job"], **job},
        "runtime": {**shared["runtime"], **runtime},
    }


@contextmanager
def as_job(config: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[DictConfig]:
    """Within, `HydraConfig.get()` and the environment are those of the job with this config and part (`hydra_of`).

    Yields both as one config, as Hydra's callbacks take it.
    """
    typed = OmegaConf.structured(HydraConf, flags={"struct": False})  # Hydra, too, has keys that HydraConf lacks
    whole = OmegaConf.create({**config, "hydra": OmegaConf.merge(typed, dict(part))})
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(whole)
    try:
        with environment(whole):
            yield whole
    finally:
        instance.cfg = before


@contextmanager
def environment(config: DictConfig) -> Iterator[None]:
    """Within, the variables of `hydra.job.env_set` are set.

    While the number of a job is unknown, those that cannot be resolved are left out; else they are a `ConfigError`.
    """
    wanted, variables = config.hydra.job.env_set, {}
    for name in wanted:
        try:
            variables[name] = wanted[name]
        except OmegaConfBaseException as error:
            if not OmegaConf.is_missing(config.hydra.job, "num"):
                raise ConfigError(f"hydra.job.env_set.{name}", unresolved(error).rule) from error
    with env_override(variables):
        yield


def check_references(config: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` for a `${hydra:...}` in a job's unresolved config that Hydra would take for null."""
    hydra: Any = HydraConfig.get()
    for name, value in flattened(config):
        for path in REFERENCE.findall(str(value)):
            try:
                found = OmegaConf.select(hydra, path, default=..., throw_on_missing=True)
                reason = "there is no such option of Hydra" if found is ... else ""
            except MissingMandatoryValue:
                reason = "it depends on the other jobs, so the same settings would be another run in another sweep"
            except (OmegaConfBaseException, RecursionError) as error:
                leave_out = f"hydra.job.config.override_dirname.exclude_keys=[{name}]"
                itself = f"it contains {name} itself; leave that out with {leave_out}"
                reason = itself if path == "job.override_dirname" else str(error).splitlines()[0]
            require(not reason, name, value, f"cannot be resolved: {reason}")


def _check_names(part: Mapping[str, Any], known: Mapping[str, Any], section: str) -> None:
    """Raise a `ConfigError` for a name that Hydra does not know; an empty section takes any."""
    for key, value in part.items():
        rule = f"is no option of Hydra{did_you_mean(key, known)}; the options of {section} are {listed(known)}"
        require(key in known, f"{section}.{key}", value, rule)
        if isinstance(known[key], dict) and known[key]:
            _check_names(value, known[key], f"{section}.{key}")
