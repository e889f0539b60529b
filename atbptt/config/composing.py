"""From a command line to the overrides of its jobs, as Hydra reads them."""

import math
import os
import re
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoaderImpl
from hydra._internal.core_plugins import file_config_source, importlib_resources_config_source
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra as Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep, Sweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from atbptt.config.arms import FORMS, GROUP, make_arms
from atbptt.config.explaining import explained, option_names
from atbptt.config.settings import NO_PROBES, NOTED
from atbptt.errors import ConfigError, described, listed, require, show
from atbptt.system import program, read_yaml

CONFIG_NAME = "config"
VERSION_BASE = "1.3"  # of Hydra: whose defaults count
SHOWING = ("help", "hydra_help", "version", "cfg", "info", "shell_completion")  # flags that run nothing
SHELL = re.compile(r"(install|uninstall|query)=(bash|fish|zsh)")
FLAGS = ("preview", "rerun")  # true or false, of the command line alone
NOTES = "notes="  # text as typed, which Hydra would read as a list or reject
FORMER = re.compile(r"probe(\.estimator=|=\{.*\bestimator:)")  # the former name of probe.decay_fit
SEARCH = "atbptt.sweeps.space.SearchOptions"  # the sweeper of hydra/sweeper=optuna
USERS = "command-line"  # Hydra's name for the folder of --config-dir
ARGUMENTS, CHARACTERS = 500, 10_000  # of a command line, at most: Hydra parses a thousand lists of numbers a second
LEVELS = 50  # of an option's name, or of lists within each other, at most
RUNS = 10_000  # of a command line, at most: to plan one takes a hundredth of a second
NESTED = f"it is nested too deep, with more than {LEVELS} levels"
FORM = "options are given as key=value"
QUOTED = ", and what is no plain word in quotes: \"key='a value'\""
MANY = 10**15
LOST = 20  # options that are in no composed choice, at most: each is found by composing once more
HEADER = 512  # characters of a file where Hydra looks for `# @package`

# Hydra copies its store for each of a hundred look-ups in a folder, half of the time of `--help`. No look-up
# changes the store, and `load` returns copies of its contents.
ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]


class UsersFirst(SearchPathPlugin):
    """Hydra searches the folder of --config-dir last: a user's copy of a shipped file would be ignored."""

    folder: ClassVar[Path | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.prepend(USERS, f"file://{self.folder}")


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of YAML files, which are checked before their values are made (ConfigError).

    Named as Hydra's own, which a worker process of Hydra's registers once more: another name would be an error.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        return checked_result(self, Path(self.path, self._normalize_file_name(config_path)))

    def is_config(self, config_path: str) -> bool:
        """Whether there is anything by this name: what cannot be read is an error, not absent."""
        return os.path.lexists(os.path.join(self.path, self._normalize_file_name(config_path)))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        try:
            return super().list(config_path, results_filter)
        except OSError as error:
            raise ConfigError(str(error.filename), f"cannot be read: {error.strerror}") from error


class ImportlibResourcesConfigSource(importlib_resources_config_source.ImportlibResourcesConfigSource):
    """The same for those in Python packages, as of `hydra.searchpath=[pkg://package]`."""

    def _read_config(self, res: Any) -> ConfigResult:
        return checked_result(self, res) if isinstance(res, Path) else super()._read_config(res)

    def is_group(self, config_path: str) -> bool:
        try:
            return super().is_group(config_path)
        except (OSError, ValueError):  # a name that no file can have
            return False

    def is_config(self, config_path: str) -> bool:
        try:
            return super().is_config(config_path)
        except (OSError, ValueError):
            return False


def checked_result(source: ConfigSource, file: Path) -> ConfigResult:
    """What Hydra makes of a YAML file (ConfigError); a ConfigLoadError if there is none."""
    try:
        text, values = read_yaml(file)
    except FileNotFoundError as error:
        if not file.is_symlink():
            raise ConfigLoadError(f"Config not found : {file}") from error
        raise ConfigError(str(file), "is a link to nowhere") from error
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(str(file), str(error)) from error
    try:
        header = ConfigSource._get_header_dict(text[:HEADER])
        return ConfigResult(source.provider, source.full_path(), OmegaConf.create(values), header)
    except Exception as error:  # a value that OmegaConf does not take, a `# @package` without a name, ...
        raise ConfigError(str(file), f"cannot be read: {described(error)}") from error


Plugins.instance().register(UsersFirst)
SourcesRegistry.instance().types |= {"file": FileConfigSource, "pkg": ImportlibResourcesConfigSource}


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
    check_size("a command line", arguments)
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
    for flag, given, folder in (("--config-dir", flags.config_dir, extra), ("--config-path", flags.config_path, base)):
        require(not given or os.path.isdir(str(folder)), flag, given, "is no folder")
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
    parsed = parse(hydra, overrides)
    for override in parsed:
        if override.is_sweep_override() and override.key_or_group in NOTED:
            rule = "names several values, but other notes and tags make no other run; several tags are tags=[a,b]"
            raise ConfigError(show(override.input_line), rule)
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
            rule = f"names several values, a sweep: add -m, as in {program('launch')} -m ..."
            raise ConfigError(show(typed[0]), rule)
        if sweeper == SEARCH and any(o.startswith("hydra/sweeper=") for o in overrides):
            raise ConfigError("hydra/sweeper", "(=optuna) is for several runs: add -m")
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        left = {*params} - {override.get_key_element() for override in parsed}
        if left and not any(o.startswith("hydra.mode=") for o in overrides):
            rule = f"sweeps {listed(sorted(left))}: add -m, or hydra.mode=RUN for one run without these values"
            raise ConfigError("hydra.sweeper.params", rule)
        return [overrides], config, kept
    if sweeper != SEARCH and not sweeper.endswith("BasicSweeper"):
        rule = f"(={sweeper}) must be basic or optuna: only their jobs are checked before the first one runs"
        raise ConfigError("hydra/sweeper", rule)
    swept = parse(hydra, with_params(command, config))
    last = {override.get_key_element(): override for override in swept}
    searched = any(override.is_sweep_override() for key, override in last.items() if key != "init")
    # What the search of a file chooses may be typed, all of it to repeat a trial.
    if sweeper == SEARCH and (searched or any(o.startswith("hydra/sweeper=") for o in overrides)):
        return [], config, kept
    for override in last.values():
        if override.is_interval_sweep():
            raise ConfigError(show(override.input_line), "is a range to search: add hydra/sweeper=optuna")
    swept = [override for override in swept if not override.is_interval_sweep()]  # in whose place a value is typed
    check_runs(swept)
    try:
        batches = BasicSweeper.split_arguments(swept, None)
    except HydraException as error:
        raise explained(error, hydra, name, overrides) from error
    if not batches[0]:
        empty = [show(o.input_line) for o in swept if o.is_sweep_override() and not value_count(o)]
        raise ConfigError(" ".join(empty), "names no value: there is nothing to run")
    return batches[0], config, kept


def check_size(name: str, texts: Sequence[str]) -> None:
    """Raise a `ConfigError` for more overrides than Hydra parses in some seconds."""
    characters = sum(map(len, texts))
    if len(texts) > ARGUMENTS or characters > CHARACTERS:
        most = f"at most {ARGUMENTS} options of {CHARACTERS:,} characters in all; a file of --config-dir takes more"
        most += f" (the longest is {show(max(texts, key=len))})"
        raise ConfigError(name, f"of {len(texts):,} options and {characters:,} characters is too long: {most}")


def parse(hydra: Hydra, texts: Sequence[str]) -> list[Override]:
    """Overrides as Hydra parses them (ConfigError)."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    found: list[Override] = []
    for text in texts:
        why = ""
        try:
            found += parser.parse_overrides([text])
            value = found[-1].value()
            if found[-1].key_or_group.count(".") >= LEVELS or depth(value) > LEVELS:
                why = NESTED
            elif isinstance(value, ChoiceSweep) and any(isinstance(choice, Sweep) for choice in value.list):
                why = "a sweep cannot be a value of another"
            elif not found[-1].key_or_group:
                why = FORM
        except RecursionError:
            why = NESTED
        except HydraException:
            why = FORM + QUOTED * ("=" in text)
        except Exception as error:  # a whole number of too many digits
            why = described(error)
        if why:
            raise ConfigError(f"'{show(text)}'", f"cannot be read: {why}")
    return found


def depth(value: Any) -> int:
    """How many lists, mappings and sweeps lie within each other."""
    parts = value.list if isinstance(value, ChoiceSweep) else value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, parts), default=0) if isinstance(parts, Iterable) and not isinstance(parts, str) else 0


def value_count(override: Override) -> int:
    """How many values an override names, without making those of a range (ConfigError)."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return sum(1 for _ in override.sweep_string_iterator()) if override.is_sweep_override() else 1
    try:
        start, stop, step = (Fraction(part or 0) for part in (value.start, value.stop, value.step))
        return max(0, math.ceil((stop - start) / step))
    except (ValueError, ArithmeticError) as error:  # nan, infinity, a step of 0
        rule = "must be a range of finite numbers, with a step other than 0"
        raise ConfigError(override.key_or_group, f"(={show(override.get_value_string())}) {rule}") from error


def check_runs(overrides: Sequence[Override], each: int = 1) -> None:
    """Raise a `ConfigError` for a sweep of more runs than can be planned; for `each` of its jobs, so many."""
    swept = [(override.get_key_element(), value_count(override)) for override in overrides]
    runs = max([each * math.prod(dict(swept).values()), *(count for _, count in swept)])  # the last of a key counts
    if runs > RUNS:
        shown = f"{runs:,}" if runs < MANY else "more than 10^15"
        texts = " ".join(str(o.input_line) for o in overrides if o.is_sweep_override())
        raise ConfigError(show(texts), f"asks for {shown} runs: a command line may have at most {RUNS:,}")


def with_params(command: Command, config: DictConfig) -> list[str]:
    """The overrides of `hydra.sweeper.params`, then those of the command line; Hydra knows the arms of both.

    Raises a `ConfigError` for what YAML takes for a list of values, or for a section, and Hydra for one value.
    """
    found = OmegaConf.select(config, "hydra.sweeper.params")
    params = found if OmegaConf.is_dict(found) else {}
    for key, value in params.items():
        name, present = f"hydra.sweeper.params.{key}", OmegaConf.select(config, key)
        rule = "is a section, which has no values to sweep: an option has its full name, as in truncation.K: 5,10"
        require(not OmegaConf.is_dict(value), name, value, rule)
        if OmegaConf.is_list(value) and present is not None and not OmegaConf.is_list(present):
            rule = f"is a list, a single value: several are a text, {key}: {','.join(map(show, value))}"
            require(False, name, value, rule)
    given = (quoted_notes(f"{key}={value}") for key, value in params.items())
    texts = [*with_former_names(given), *command.overrides]
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
            if not unknown or len(lost) >= LOST:
                raise
            lost |= dict.fromkeys(unknown, error)
            unswept = [o for o in unswept if o not in lost]
    sweeps = command.multirun or config.hydra.mode == RunMode.MULTIRUN or any(o.is_sweep_override() for o in parsed)
    if lost and not sweeps:
        raise next(iter(lost.values()))
    return config, [o for o in command.overrides if o not in lost]


def composed(hydra: Hydra, name: str | None, overrides: list[str]) -> DictConfig:
    try:
        config = hydra.compose_config(name, overrides, RunMode.RUN, from_shell=True, with_log_configuration=False)
    except Exception as error:  # not only Hydra's: a YAML error, a null as the choice of a group, ...
        raise explained(error, hydra, name, overrides) from error
    check_no_probes(config)
    return config


def check_no_probes(config: DictConfig) -> None:
    """Raise a `ConfigError` where options of probes are set after probe=none, which would turn them on again.

    Those of experiments come before it; of a primary config, or added, as ++probe.window=60, after it.
    """
    if OmegaConf.select(config, "hydra.runtime.choices.probe") == NO_PROBES:
        for name in option_names(config, "probe"):
            raise ConfigError(f"probe.{name}", f"is no option of probe={NO_PROBES}, which has none")
