"""What is wrong with a command line: Hydra's errors by name, value, rule and choices."""

import re

from hydra._internal.hydra import Hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from atbptt.config.arms import ARM, FORMS, GROUP
from atbptt.config.full_names import full_names, option_names
from atbptt.errors import ConfigError, did_you_mean, listed


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
    match = re.search(r"Could not (?:override|delete from config\. ?)? ?'([^']*)'", text)
    if match:
        key = match[1]
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
