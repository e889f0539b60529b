"""What is wrong with a command line: Hydra's errors by name, value, rule and choices, and the names that were meant."""

import contextlib
import re
import traceback
from collections.abc import Iterator

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atbptt.config.arms import ARM, FORMS, GROUP
from atbptt.config.components import SUPPLIED
from atbptt.errors import DESCRIBED, ConfigError, did_you_mean, listed, nearest, shortened

OPEN = ("hydra.job.env_set", "hydra.callbacks", "hydra.launcher.")  # sections of any names


def explained(error: Exception, hydra: Hydra, name: str | None, overrides: list[str]) -> ConfigError:
    """The error of a primary config that could not be composed with these overrides."""
    if isinstance(error, ConfigError):
        return error
    found = _explained(error, hydra, name, overrides)
    return ConfigError(found.name, shortened(" ".join(found.rule.split()), DESCRIBED))


def _explained(error: Exception, hydra: Hydra, name: str | None, overrides: list[str]) -> ConfigError:
    if isinstance(error, RecursionError):
        return _nested(error)
    text = str(error) or type(error).__name__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or [])
        there = f"the options are {listed(options)}" if options else "there are none"
        if group == GROUP:
            options = [each for each in options if not ARM.fullmatch(each)]  # of the user
            there = f"it is {FORMS}{''.join(f', or {each}' for each in options)}"
        within = (
            None if any(o.lstrip("+~").startswith(f"{group}=") for o in overrides) else re.match("In '(.+?)'", text)
        )
        by = f" (in the defaults of {within[1]}.yaml)" if within else ""
        rule = f"(={option}) is no option{did_you_mean(option, options)}; {there}{by}"
        return ConfigError(group or "--config-name", rule)
    if match := re.search(r"Multiple values for ([\w/]+)\.", text):
        return ConfigError(match[1], f"is chosen already: {match[1]}=... without + chooses another")
    if "Config group override must be a string or a list. Got NoneType" in text:
        key = next((o.partition("=")[0] for o in overrides if o.endswith("=null")), "config")
        choices = FORMS if key == GROUP else f"one of {listed(hydra.config_loader.get_group_options(key))}"
        return ConfigError(key, f"(=null) must be {choices}")
    if match := re.search(r"Error merging override [+~]*([^=\n]+)=?([^\n]*)", text):
        reason = str(error.__cause__).splitlines()[0] if error.__cause__ else "it does not fit"
        return ConfigError(match[1], f"(={match[2]}) cannot be set: {reason}")
    if match := re.search(r"In '([^']+)': \w+ raised while composing config:\s*([^\n]*)(?:\n *full_key: (\S+))?", text):
        return ConfigError(match[3] or "config", f"cannot be set as in {match[1]}.yaml: {match[2]}")
    if match := re.search(r"provider=hydra.searchpath in [\w-]+, path=(.*) is not available", text):
        return ConfigError("hydra.searchpath", f"(={match[1]}) is no folder")
    if isinstance(error, KeyError):  # Hydra reads nothing else by a name of the user's
        return ConfigError("hydra.job.env_copy", f"(={error.args[0]}) is no variable of the environment")
    match = re.search(r"Could not (?:override|delete from config\. ?)? ?'([^']*)'", text)
    if match:
        key = match[1]
        if "/" in key or ("@" in key and not any(o.lstrip("+~").startswith(key) for o in overrides)):
            return ConfigError(
                key, "is chosen nowhere: there is no such group, or `# @package _global_` is not a file's first line"
            )
        parent, _, leaf = key.rpartition(".")
        meant: list[str] = []
        names: list[str] = []
        choice = node = None
        with contextlib.suppress(HydraException, OmegaConfBaseException):
            groups = [o for o in overrides if hydra.config_loader.get_group_options(o.partition("=")[0])]
            whole = hydra.compose_config(name, groups, RunMode.RUN, with_log_configuration=False)
            choice = whole.hydra.runtime.choices.get(parent)
            node = OmegaConf.select(whole, parent)
            names = option_names(whole, parent)
            meant = [] if parent else full_names(hydra, whole, key)
            if parent and not names:
                full = (
                    f"{section}.{each}" for section in option_names(whole, "") for each in option_names(whole, section)
                )
                meant = [each for each in (nearest(key, full, 0.6),) if each]
        if isinstance(node, str):
            return ConfigError(key, f"is no option of {parent}={node}, which has none")
        if key.startswith(OPEN) and nearest(leaf, names, 0.5) in ("", leaf):
            typed = next(o for o in overrides if o.startswith(key))
            return ConfigError(key, f"takes new names with + only: +{typed}")
        if meant:
            value = next((o.partition("=")[2] for o in overrides if o.partition("=")[0] == key), "")
            return ConfigError(
                key, f"{f'(={value}) ' * bool(value and not parent)}is no option; did you mean {' or '.join(meant)}?"
            )
        of = f"of {parent}={choice} " if choice else ""
        known = f"; the options {of}are {listed(names)}" if names else ""
        return ConfigError(key, f"is no option{did_you_mean(leaf, names)}{known}")
    if files := _composed_when(error, "_(extract|create)_defaults_list", "config_path"):
        return ConfigError(f"{files[-1]}.yaml", f"has no list of defaults as Hydra reads it: {text}")
    return ConfigError("config", f"cannot be composed: {text}")


def _composed_when(error: Exception, function: str, variable: str) -> list[str]:
    """The files that Hydra was at in a function of its own, which its errors do not tell."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    called = [frame for frame in frames if re.fullmatch(function, frame.f_code.co_name) and variable in frame.f_locals]
    return [str(frame.f_locals[variable]) for frame in called]


def _nested(error: RecursionError) -> ConfigError:
    """What contains itself: a file by its defaults list, or values."""
    paths = _composed_when(error, "_create_defaults_tree_impl", "path")
    loop = next((paths[: number + 1] for number, path in enumerate(paths) if path in paths[:number]), [])
    if not loop:
        return ConfigError("config", "cannot be composed: values are nested too deep")
    first = loop.index(loop[-1])
    files = (f"{path}.yaml" for path in loop[first:])
    return ConfigError(f"{loop[-1]}.yaml", f"includes itself by the defaults of {' -> '.join(files)}")


def full_names(hydra: Hydra, config: DictConfig, typed: str) -> list[str]:
    """The options whose last name is `typed`, or else nearly so; none if the name of an option at the top is nearer.

    Those of the config come before those of other choices, which are named too: `truncation.K, of truncation=fixed`.
    """
    top = option_names(config, "")
    known: dict[str, list[str]] = {}
    for section in top:
        for name in option_names(config, section):
            known.setdefault(name, []).append(f"{section}.{name}")
    here = set(known)
    for group in SUPPLIED:
        choices: dict[str, list[str]] = {}
        for choice in hydra.config_loader.get_group_options(group):
            for name in set(_names(hydra, group, choice)) - here:
                choices.setdefault(name, []).append(choice)
        for name, having in choices.items():
            known.setdefault(name, []).append(f"{group}.{name}, of {group}={','.join(having)}")
    name = typed if typed in known else nearest(typed, [*top, *known], 0.6)
    return [] if name in top else known.get(name, [])


def option_names(config: DictConfig, section: str) -> list[str]:
    """The names of the options in a section of a config; of the whole if it is empty."""
    node = OmegaConf.select(config, section) if section else config
    hidden = ("hydra", "_target_", *(["name"] if section else []))
    return [str(key) for key in node if key not in hidden] if isinstance(node, DictConfig) else []


def _names(hydra: Hydra, group: str, choice: str) -> Iterator[str]:
    with contextlib.suppress(Exception):  # a broken file is another matter
        assert isinstance(hydra.config_loader, ConfigLoaderImpl)
        found = hydra.config_loader.repository.load_config(f"{group}/{choice}")
        assert found is not None
        assert isinstance(found.config, DictConfig)
        yield from option_names(found.config, group if found.header["package"] == "_global_" else "")
