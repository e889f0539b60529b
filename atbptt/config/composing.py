"""From a command line to the overrides of its jobs, as Hydra reads them."""

import re
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra as Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atbptt.config.arms import FORMS, GROUP, make_arms
from atbptt.config.explaining import explained
from atbptt.config.settings import NOTED
from atbptt.errors import ConfigError, listed, require
from atbptt.system import program

CONFIG_NAME = "config"
VERSION_BASE = "1.3"  # of Hydra: whose defaults count
SHOWING = ("help", "hydra_help", "version", "cfg", "info", "shell_completion")  # flags that run nothing
SHELL = re.compile(r"(install|uninstall|query)=(bash|fish|zsh)")
FLAGS = ("preview", "rerun")  # true or false, of the command line alone
NOTES = "notes="  # text as typed, which Hydra would read as a list or reject
FORMER = re.compile(r"probe(\.estimator=|=\{.*\bestimator:)")  # the former name of probe.decay_fit
SEARCH = "atbptt.sweeps.space.SearchOptions"  # the sweeper of hydra/sweeper=optuna
USERS = "command-line"  # Hydra's name for the folder of --config-dir

# Hydra copies its store for each of a hundred look-ups in a folder, half of the time of `--help`. No look-up
# changes the store, and `load` returns copies of its contents.
ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]


class UsersFirst(SearchPathPlugin):
    """Hydra searches the folder of --config-dir last: a user's copy of a shipped file would be ignored."""

    folder: ClassVar[Path | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.prepend(USERS, f"file://{self.folder}")


Plugins.instance().register(UsersFirst)


@dataclass(frozen=True)
class Command:
    """A parsed command line."""

    overrides: list[str]  # as typed, without `FLAGS`
    multirun: bool  # whether -m is given
    name: str  # of the primary config
    config_dir: Path
    extra: Path | None  # the folder of --config-dir, searched first
    preview: bool  # whether the jobs are only shown
    rerun: bool = False  # whether runs begin anew that have begun before
    config_path: str | None = None  # of `config_dir`, as typed

    @property
    def folders(self) -> list[Path]:
        return [self.config_dir] if self.extra is None else [self.extra, self.config_dir]


def read_command(arguments: Sequence[str], config_dir: Path) -> Command | None:
    """Parse a command line (ConfigError); None if it runs nothing (`--help`, `--cfg`, ...)."""
    flags = read_flags(arguments)
    if any(getattr(flags, flag) for flag in SHOWING):
        return None
    return command_of(flags, config_dir)


def read_flags(arguments: Sequence[str]) -> Namespace:
    """The flags of a command line, with `overrides`, `preview` and `rerun` (ConfigError)."""
    arguments, own = split_flags(arguments)
    parser = ArgumentParser(parents=[get_args_parser()], add_help=False, conflict_handler="resolve")
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("--version", action="store_true")  # Hydra's prints its own
    parser.set_defaults(**own)
    flags = parser.parse_args(arguments)
    if flags.experimental_rerun:
        rule = "is not supported: the same command again continues its runs, and a run's config.yaml has its options"
        raise ConfigError("--experimental-rerun", rule)
    asked = [f"--{name}" for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(flags, name)]
    if len(asked) > 1 and asked != ["--multirun", "--cfg"]:
        raise ConfigError(" and ".join(asked).replace("_", "-"), "exclude each other")
    for name in ("resolve", "package"):
        if getattr(flags, name) and not (flags.cfg or (name == "resolve" and flags.help)):
            raise ConfigError(f"--{name}", "needs --cfg job, hydra or all")
    if flags.shell_completion and not SHELL.fullmatch(" ".join(flags.overrides)):
        raise ConfigError("--shell-completion", "needs install=SHELL or uninstall=SHELL, with bash, fish or zsh")
    return flags


def command_of(flags: Namespace, config_dir: Path) -> Command:
    """The command with these flags; Hydra then knows its arms and its folder (ConfigError)."""
    base = config_dir.parent / flags.config_path if flags.config_path else config_dir
    extra = Path(flags.config_dir).absolute() if flags.config_dir else None
    if extra is not None and not extra.is_dir():
        raise ConfigError("--config-dir", f"(={flags.config_dir}) is no folder")
    name = flags.config_name or CONFIG_NAME
    command = Command(flags.overrides, flags.multirun, name, base, extra, flags.preview, flags.rerun, flags.config_path)
    make_arms(command.overrides, command.folders)
    UsersFirst.folder = extra
    return command


def split_flags(arguments: Sequence[str]) -> tuple[list[str], dict[str, bool]]:
    """The arguments for Hydra, without `preview=...` and `rerun=...`, and the last value of these (ConfigError)."""
    flags, rest = dict.fromkeys(FLAGS, False), []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in FLAGS and "=" in argument:
            require(value.lower() in ("true", "false"), name, value, "must be true or false")
            flags[name] = value.lower() == "true"
        else:
            rest.append(quoted_notes(argument))
    return with_former_names(rest), flags


def quoted_notes(argument: str) -> str:
    """`notes='a, b'` of an argument `notes=a, b`: the shell has taken its quotes."""
    text = argument.removeprefix(NOTES)
    if text in (argument, "", "null") or (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        return argument
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (found[2] and "\\'"), text)
    return f"{NOTES}'{escaped}'"


def with_former_names(arguments: Iterable[str]) -> list[str]:
    """Puts `++` before options set by their former name, which no file has."""
    return [f"++{argument}" if FORMER.match(argument) else argument for argument in arguments]


def _refuse(message: str) -> NoReturn:
    raise ConfigError("command line:", f"{message}; flags such as -m come first, see {program('launch')} --help")


@contextmanager
def composer(config_dir: Path, extra: Path | None = None) -> Iterator[Hydra]:
    """Hydra, ready to compose from `config_dir` and, before it, `extra`."""
    instance = GlobalHydra.instance()
    before = instance.hydra  # as in a notebook that composes, too
    instance.clear()
    UsersFirst.folder = extra
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="provider=hydra.searchpath")
            initialize_config_dir(str(config_dir.absolute()), "launch", version_base=VERSION_BASE)
            assert instance.hydra is not None
            yield instance.hydra
    finally:
        instance.hydra = before


def expanded(hydra: Hydra, command: Command) -> tuple[list[list[str]], DictConfig, list[str]]:
    """The overrides of each job; the config without swept overrides, and the overrides for it (ConfigError).

    A search has no jobs yet (see `atbptt.sweeps.space`).
    """
    name, overrides = command.name, command.overrides
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    try:
        parsed = parser.parse_overrides(overrides)
    except HydraException as error:
        raise explained(error, hydra, name, overrides) from error
    for override in parsed:
        if override.is_sweep_override() and override.key_or_group in NOTED:
            rule = "names several values, but other notes and tags make no other run; several tags are tags=[a,b]"
            raise ConfigError(str(override.input_line), rule)
        options = hydra.config_loader.get_group_options(override.key_or_group)
        chosen = override.value() if not (override.is_sweep_override() or override.is_delete()) else ""
        chooses = not options or isinstance(chosen, str | list | dict)
        rule = f"must be {FORMS}" if override.key_or_group == GROUP else f"must be one of {listed(options)}"
        require(chooses, override.key_or_group, chosen, rule)
    config, kept = _unswept(hydra, command, parsed)
    sweeper = str(OmegaConf.select(config, "hydra.sweeper._target_"))
    if not (command.multirun or config.hydra.mode == RunMode.MULTIRUN):
        typed = [str(o.input_line) for o in parsed if o.is_sweep_override()]
        if typed:
            raise ConfigError(typed[0], f"names several values, a sweep: add -m, as in {program('launch')} -m ...")
        if sweeper == SEARCH and any(o.startswith("hydra/sweeper=") for o in overrides):
            raise ConfigError("hydra/sweeper", "(=optuna) is for several runs: add -m")
        return [overrides], config, kept
    if sweeper == SEARCH:
        return [], config, kept
    if not sweeper.endswith("BasicSweeper"):
        rule = f"(={sweeper}) must be basic or optuna: only their jobs are checked before the first one runs"
        raise ConfigError("hydra/sweeper", rule)
    try:
        swept = parser.parse_overrides(with_params(command, config.hydra.sweeper.params or {}))
        for override in swept:
            if override.is_interval_sweep():
                raise ConfigError(str(override.input_line), "is a range to search: add hydra/sweeper=optuna")
        batches = BasicSweeper.split_arguments(swept, None)
    except HydraException as error:
        raise explained(error, hydra, name, overrides) from error
    if not batches[0]:
        empty = [str(o.input_line) for o in parsed if o.is_sweep_override() and not list(o.sweep_string_iterator())]
        raise ConfigError(" ".join(empty), "names no value: there is nothing to run")
    return batches[0], config, kept


def with_params(command: Command, params: Mapping[str, Any]) -> list[str]:
    """The overrides of `hydra.sweeper.params`, then those of the command line; Hydra knows the arms of both."""
    texts = [*with_former_names(f"{key}={value}" for key, value in params.items()), *command.overrides]
    make_arms(texts, command.folders)
    return texts


def _unswept(hydra: Hydra, command: Command, parsed: list[Override]) -> tuple[DictConfig, list[str]]:
    """The config without swept overrides, as Hydra composes it before it expands a sweep, and the overrides it takes.

    In a sweep, options that are not in it are left out: a swept choice may have them.
    """
    unswept = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
    lost: dict[str, ConfigError] = {}
    while True:
        try:
            config = composed(hydra, command.name, unswept)
            break
        except ConfigError as error:
            unknown = [o for o in unswept if "." in error.name and o.partition("=")[0] == error.name]
            if not unknown:
                raise
            lost |= dict.fromkeys(unknown, error)
            unswept = [o for o in unswept if o not in lost]
    sweeps = command.multirun or config.hydra.mode == RunMode.MULTIRUN or any(o.is_sweep_override() for o in parsed)
    if lost and not sweeps:
        raise next(iter(lost.values()))
    return config, [o for o in command.overrides if o not in lost]


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
        name, reason = str(error.full_key or "config"), str(error.msg).splitlines()[0]
        raise ConfigError(name, f"cannot be resolved: {reason}") from error
    return {str(key): value for key, value in dict(resolved).items()}  # type: ignore[arg-type]


def composed(hydra: Hydra, name: str, overrides: list[str]) -> DictConfig:
    try:
        return hydra.compose_config(name, overrides, RunMode.RUN, from_shell=True, with_log_configuration=False)
    except Exception as error:  # not only Hydra's: a YAML error, a null as the choice of a group, ...
        raise explained(error, hydra, name, overrides) from error
