"""The full names of options that are typed without their section: K for truncation.K."""

import contextlib
import difflib
from collections.abc import Iterator

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig, OmegaConf

from atbptt.config.components import SUPPLIED


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
