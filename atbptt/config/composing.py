"""From a command line to the overrides of its jobs, as Hydra reads them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atbptt.config.arms import FORMS, GROUP, make_arms
from atbptt.config.explaining import explained
from atbptt.errors import ConfigError, listed, require

CONFIG_NAME = "config"
SHOWING = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")  # flags that run nothing
PREVIEW = "preview="
FORMER = re.compile(r"probe(\.estimator=|=\{.*\bestimator:)")  # the former name of probe.decay_fit
SEARCH = "atbptt.sweeps.space.SearchOptions"  # the sweeper of hydra/sweeper=optuna
USERS = "command-line"  # Hydra's name for the folder of --config-dir

# Hydra copies its store for each of a hundred look-ups in a folder, half of the time of `--help`. No look-up
# changes the store, and `load` returns copies of its contents.
ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]

_prepend = ConfigSearchPathImpl.prepend


def _users_first(self: ConfigSearchPathImpl, provider: str, path: str, anchor: Any = None) -> None:
    _prepend(self, provider, path, None if provider == USERS else anchor)


# Hydra searches the folder of --config-dir last: a user's copy of a shipped file would be ignored.
ConfigSearchPathImpl.prepend = _users_first  # type: ignore[method-assign]


@dataclass(frozen=True)
class Command:
    """A parsed command line."""

    overrides: list[str]  # as typed, without `preview`
    multirun: bool  # whether -m is given
    name: str  # of the primary config
    config_dir: Path
    extra: Path | None  # the folder of --config-dir, searched first
    preview: bool  # whether the jobs are only shown

    @property
    def folders(self) -> list[Path]:
        return [self.config_dir] if self.extra is None else [self.extra, self.config_dir]


def read_command(arguments: Sequence[str], config_dir: Path) -> Command | None:
    """Parse a command line (ConfigError); None if it runs nothing (`--help`, `--cfg`, ...)."""
    arguments, preview = split_preview(arguments)
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parsed = parser.parse_args(arguments)
    base = config_dir.parent / parsed.config_path if parsed.config_path else config_dir
    extra = Path(parsed.config_dir).absolute() if parsed.config_dir else None
    name = parsed.config_name or CONFIG_NAME
    command = Command(parsed.overrides, parsed.multirun, name, base, extra, preview)
    make_arms(command.overrides, command.folders)
    if any(getattr(parsed, flag) for flag in SHOWING):
        return None
    if extra is not None and not extra.is_dir():
        raise ConfigError("--config-dir", f"(={parsed.config_dir}) is no folder")
    return command


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
    if extra is not None:
        search_path.prepend(USERS, f"file://{extra}")
    try:
        yield Hydra.create_main_hydra2(task_name="launch", config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()


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
        options = hydra.config_loader.get_group_options(override.key_or_group)
        chosen = override.value() if not (override.is_sweep_override() or override.is_delete()) else ""
        chooses = not options or isinstance(chosen, str | list | dict)
        rule = f"must be {FORMS}" if override.key_or_group == GROUP else f"must be one of {listed(options)}"
        require(chooses, override.key_or_group, chosen, rule)
    config, kept = _unswept(hydra, command, parsed)
    if not (command.multirun or config.hydra.mode == RunMode.MULTIRUN):
        typed = [str(o.input_line) for o in parsed if o.is_sweep_override()]
        if typed:
            raise ConfigError(typed[0], "names several values, a sweep: add -m, as in python launch.py -m ...")
        return [overrides], config, kept
    sweeper = config.hydra.sweeper._target_
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
    options = plain(config.hydra.launcher)
    jobs = options.get("n_jobs", 1)
    fits = type(jobs) is int and (jobs >= 1 or jobs == -1)
    require(fits, "hydra.launcher.n_jobs", jobs, "must be at least 1 job at once, or -1 for one a core")
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
