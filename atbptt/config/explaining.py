"""What is wrong with a command line: Hydra's errors by name, value, rule and choices, and the names that were meant."""

import contextlib
import difflib
import re
from collections.abc import Iterator

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atbptt.config.arms import ARM, FORMS, GROUP
from atbptt.config.components import SUPPLIED
from atbptt.errors import ConfigError, did_you_mean, listed

OPEN = ("hydra.job.env_set", "hydra.callbacks", "hydra.launcher.")  # sections of any names


def explained(error: Exception, hydra: Hydra, name: str, overrides: list[str]) -> ConfigError:
    """The error of a primary config that could not be composed with these overrides."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or [])
        there = f"the options are {listed(options)}" if options else "there are none"
        if group == GROUP:
            options = [each for each in options if not ARM.fullmatch(each)]  # of the user
            there = f"it is {FORMS}{''.join(f', or {each}' for each in options)}"
        rule = f"(={option}) is no option{did_you_mean(option, options)}; {there}"
        return ConfigError(group or "--config-name", rule)
    if isinstance(error, OverrideParseException):
        return ConfigError(f"'{error.override}'", "cannot be read: options are given as key=value")
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
        if "/" in key:
            return ConfigError(
                key, "is chosen nowhere: there is no such group, or `# @package _global_` is not a file's first line"
            )
        if key.startswith(OPEN):
            name = next(o for o in overrides if o.startswith(key))
            return ConfigError(key, f"takes new names with + only: +{name}")
        parent, _, leaf = key.rpartition(".")
        meant: list[str] = []
        try:
            groups = [o for o in overrides if hydra.config_loader.get_group_options(o.partition("=")[0])]
            whole = hydra.compose_config(name, groups, RunMode.RUN, with_log_configuration=False)
            choice = whole.hydra.runtime.choices.get(parent)
            names = option_names(whole, parent)
            meant = [] if parent else full_names(hydra, whole, key)
        except (HydraException, OmegaConfBaseException):
            names, choice = [], None
        if meant:
            value = next((o.partition("=")[2] for o in overrides if o.partition("=")[0] == key), "")
            return ConfigError(key, f"{f'(={value}) ' * bool(value)}is no option; did you mean {' or '.join(meant)}?")
        of = f"of {parent}={choice} " if choice else ""
        known = f"; the options {of}are {listed(names)}" if names else ""
        return ConfigError(key, f"is no option{did_you_mean(leaf, names)}{known}")
    return ConfigError("config", f"cannot be composed: {text}")


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
    name = typed if typed in known else next(iter(difflib.get_close_matches(typed, [*top, *known], n=1)), "")
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
