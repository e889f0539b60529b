"""From a command line to the configs of its jobs, as Hydra composes them.

Hydra takes a tenth of a second to compose a job, nearly all of it to read and merge the files of its choices of groups.
Jobs with the same choices share that step here, and each applies its own values to a copy. Where that does not work,
Hydra composes the whole job.
"""

import copy
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.defaults_list import Overrides
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from atbptt.errors import ConfigError, did_you_mean, listed, require

CONFIG_NAME = "config"
SHOWING = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")  # flags that run nothing
PREVIEW = "preview="
FORMER = re.compile(r"probe(\.estimator=|=\{.*\bestimator:)")  # the former name of probe.decay_fit
INTO_HYDRA = re.compile(r"\$\{.*hydra")  # an interpolation that may refer to Hydra's part

# Hydra copies its store for each of a hundred look-ups in a folder, half of the time of `--help`. The store never
# changes, and `load` returns copies of its contents.
ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Command:
    """A parsed command line."""

    overrides: list[str]  # as typed, without `preview`
    multirun: bool  # whether -m is given
    name: str  # of the primary config
    config_dir: Path
    extra: Path | None  # the folder of --config-dir, searched first
    preview: bool  # whether the jobs are only shown


def read_command(arguments: Sequence[str], config_dir: Path) -> Command | None:
    """Parse a command line (ConfigError); None if it runs nothing (`--help`, `--cfg`, ...)."""
    arguments, preview = split_preview(arguments)
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parsed = parser.parse_args(arguments)
    if any(getattr(parsed, flag) for flag in SHOWING):
        return None
    extra = Path(parsed.config_dir).absolute() if parsed.config_dir else None
    if extra is not None and not extra.is_dir():
        raise ConfigError("--config-dir", f"(={parsed.config_dir}) is no folder")
    base = config_dir.parent / parsed.config_path if parsed.config_path else config_dir
    name = parsed.config_name or CONFIG_NAME
    return Command(parsed.overrides, parsed.multirun, name, base, extra, preview)


def split_preview(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments for Hydra, without `preview=...`, and whether `preview=true` is the last of these."""
    values = [argument.removeprefix(PREVIEW) for argument in arguments if argument.startswith(PREVIEW)]
    for value in values:
        require(value.lower() in ("true", "false"), "preview", value, "must be true or false")
    rest = [argument for argument in arguments if not argument.startswith(PREVIEW)]
    return with_former_names(rest), bool(values) and values[-1].lower() == "true"


def with_former_names(arguments: Iterable[str]) -> list[str]:
    """Puts `++` before options set by their former name, which no file has."""
    return [f"++{argument}" if FORMER.match(argument) else argument for argument in arguments]


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


def expanded(hydra: Hydra, command: Command) -> tuple[list[list[str]], DictConfig]:
    """The overrides of each job, and the config without swept overrides (ConfigError)."""
    name, overrides = command.name, command.overrides
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    try:
        parsed = parser.parse_overrides(overrides)
    except HydraException as error:
        raise _explained(error, hydra, name, overrides) from error
    for override in parsed:
        options = hydra.config_loader.get_group_options(override.key_or_group)
        chosen = override.value() if not (override.is_sweep_override() or override.is_delete()) else ""
        chooses = not options or isinstance(chosen, str | list | dict)
        require(chooses, override.key_or_group, chosen, f"must be one of {listed(options)}")
    plain = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
    try:
        config = _composed(hydra, name, plain)  # as Hydra does before it expands a sweep
    except ConfigError as error:
        group = error.name.partition(".")[0]
        if not any(o.is_sweep_override() and o.key_or_group == group for o in parsed):
            raise
        hint = f"{group} is swept: {error.name}='choice(VALUE)' sets it in every job"
        raise ConfigError(error.name, f"{error.rule}; {hint}") from error
    if not (command.multirun or config.hydra.mode == RunMode.MULTIRUN):
        swept = [str(o.input_line) for o in parsed if o.is_sweep_override()]
        if swept:
            raise ConfigError(swept[0], "names several values, a sweep: add -m, as in python launch.py -m ...")
        return [overrides], config
    sweeper = config.hydra.sweeper._target_
    if not sweeper.endswith("BasicSweeper"):
        rule = f"(={sweeper}) must be basic: only its jobs are known, and checked, before the first one runs"
        raise ConfigError("hydra/sweeper", rule)
    params = with_former_names(f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items())
    try:
        batches = BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)
    except HydraException as error:
        raise _explained(error, hydra, name, overrides) from error
    if not batches[0]:
        empty = [str(o.input_line) for o in parsed if o.is_sweep_override() and not list(o.sweep_string_iterator())]
        raise ConfigError(" ".join(empty), "names no value: there is nothing to run")
    return batches[0], config


def launcher_options(config: DictConfig) -> dict[str, Any]:
    """The launcher's options, with `_target_` (ConfigError)."""
    options = _plain(config.hydra.launcher)
    jobs = options.get("n_jobs", 1)
    fits = type(jobs) is int and (jobs >= 1 or jobs == -1)
    require(fits, "hydra.launcher.n_jobs", jobs, "must be at least 1 job at once, or -1 for one a core")
    return options


def job_config(hydra: Hydra, name: str, overrides: list[str]) -> dict[str, Any]:
    """A job's config without Hydra's part, as plain containers, interpolations resolved (ConfigError)."""
    return _plain(_without_hydra(_composed(hydra, name, overrides)))


def job_configs(hydra: Hydra, name: str, batch: Iterable[list[str]]) -> Iterator[dict[str, Any]]:
    """`job_config` of each job, in a fraction of the time: each choice of groups is composed once."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    assert isinstance(hydra.config_loader, ConfigLoaderImpl)
    _, repository = hydra.config_loader._parse_overrides_and_create_caching_repo(name, [])

    @functools.cache
    def value(text: str) -> Override | None:
        """The override of a value; None for the choice of a group and for Hydra's own options."""
        (override,) = parser.parse_overrides([text])
        if override.is_hydra_override():
            if override.key_or_group == "hydra.searchpath":
                raise ValueError(f"{text} may turn values into groups")
            return None
        if "hydra" in override.get_key_element() or INTO_HYDRA.search(text):
            raise ValueError(f"{text} may refer to Hydra's part of the config")
        return override if Overrides(repository, [override]).config_overrides else None

    @functools.cache
    def chosen(choices: tuple[str, ...]) -> DictConfig:
        config = hydra.compose_config(name, list(choices), RunMode.RUN, with_log_configuration=False)
        config = _without_hydra(config)
        if INTO_HYDRA.search(OmegaConf.to_yaml(config)):
            raise ValueError(f"{choices} may refer to Hydra's part of the config")
        return config

    for overrides in batch:
        try:
            choices = tuple(text for text in overrides if value(text) is None)
            config = copy.deepcopy(chosen(choices))
            values = [override for text in overrides if (override := value(text)) is not None]
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
            job = _plain(config)
        except Exception:  # Hydra composes the job, or reports what is wrong
            job = job_config(hydra, name, overrides)
        yield job


def _without_hydra(config: DictConfig) -> DictConfig:
    with flag_override(config, ["struct", "readonly"], False):
        config.pop("hydra")
    return config


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        name, reason = str(error.full_key or "config"), str(error.msg).splitlines()[0]
        raise ConfigError(name, f"cannot be resolved: {reason}") from error
    return {str(key): value for key, value in dict(resolved).items()}  # type: ignore[arg-type]


def _composed(hydra: Hydra, name: str, overrides: list[str]) -> DictConfig:
    try:
        return hydra.compose_config(name, overrides, RunMode.RUN, from_shell=True, with_log_configuration=False)
    except Exception as error:  # not only Hydra's: a YAML error, a null as the choice of a group, ...
        raise _explained(error, hydra, name, overrides) from error


def _explained(error: Exception, hydra: Hydra, name: str, overrides: list[str]) -> ConfigError:
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or [])
        there = f"the options are {listed(options)}" if options else "there are none"
        rule = f"(={option}) is no option{did_you_mean(option, options)}; {there}"
        return ConfigError(group or "--config-name", rule)
    if isinstance(error, OverrideParseException):
        return ConfigError(f"'{error.override}'", "cannot be read: options are given as key=value")
    match = re.search(r"Could not (?:override|delete from config\. ?)? ?'([^']*)'", text)
    if match:
        key = match[1]
        parent, _, leaf = key.rpartition(".")
        try:
            groups = [o for o in overrides if hydra.config_loader.get_group_options(o.partition("=")[0])]
            whole = hydra.compose_config(name, groups, RunMode.RUN, with_log_configuration=False)
            section = OmegaConf.select(whole, parent) if parent else whole
            choice = whole.hydra.runtime.choices.get(parent)
            hidden = ("hydra", "_target_", *(["name"] if parent else []))
            names = [str(k) for k in section if k not in hidden] if isinstance(section, DictConfig) else []
        except (HydraException, OmegaConfBaseException):
            names, choice = [], None
        of = f"of {parent}={choice} " if choice else ""
        known = f"; the options {of}are {listed(names)}" if names else ""
        return ConfigError(key, f"is no option{did_you_mean(leaf, names)}{known}")
    return ConfigError("config", f"cannot be composed: {text}")
