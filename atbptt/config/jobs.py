"""The configs of a command line's jobs, as Hydra composes them, and the user's YAML files in each.

Hydra takes a tenth of a second to compose a job, nearly all of it to read and merge the files of its choices of groups.
Jobs with the same choices share that step here, and each applies its own values to a copy. Where that does not work,
Hydra composes the whole job.
"""

import copy
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from atbptt.config.composing import Command, ConfigLoaderImpl, Hydra, check_no_probes, composed
from atbptt.config.hydra_options import REFERENCE, as_job, check_references, hydra_of, hydra_part, plain
from atbptt.config.settings import NO_PROBES

INTO_HYDRA = re.compile(r"\$\{.*hydra")  # an interpolation that may refer to Hydra's part


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file of the folder of --config-dir; as text, where it is taken from."""

    name: str  # relative to the folder: model/gru.yaml
    folder: str
    replaces: bool  # whether there is a shipped file of this name

    def __str__(self) -> str:
        return f"{self.name} is taken from {self.folder}{', not the shipped one' if self.replaces else ''}"


class Shared:
    """What the jobs of a command line share: each choice of groups is composed once."""

    def __init__(self, hydra: Hydra, command: Command) -> None:
        self.hydra = hydra
        self.command = command
        self.value = functools.cache(self._value)
        self.composed = functools.cache(self._composed)
        self.option = functools.cache(self._option)
        self._bare = functools.cache(self._without_hydra)
        self._part = functools.cache(lambda choices: hydra_part(self.composed(choices), command.multirun))
        self._files = functools.cache(self._files_of)
        self._parser = OverridesParser.create(config_loader=hydra.config_loader)
        self._is_group = functools.cache(self._has_options)

    def _value(self, text: str) -> Override | None:
        """The override of a value; None for the choice of a group and for Hydra's own options."""
        (override,) = self._parser.parse_overrides([text])
        value = not self._is_group(override.key_or_group) or isinstance(override.value(), dict)
        return override if value and not override.is_hydra_override() else None

    def _has_options(self, name: str) -> bool:
        return bool(self.hydra.config_loader.get_group_options(name, None, self.command.name))

    def _option(self, text: str) -> str | None:
        """The option that an override sets, if it is one of a group's choice: `truncation.K`."""
        override = self.value(text)
        if override is None or override.type is not OverrideType.CHANGE:
            return None
        key = override.get_key_element()
        return key if "." in key and self._is_group(key.partition(".")[0]) else None

    def choices(self, overrides: Iterable[str]) -> tuple[str, ...]:
        """The overrides that choose what is composed."""
        return tuple(text for text in overrides if self.value(text) is None)

    def _composed(self, choices: tuple[str, ...]) -> DictConfig:
        """The config of these choices, with Hydra's part."""
        name, texts = self.command.name, list(choices)
        config = self.hydra.compose_config(name, texts, RunMode.RUN, with_log_configuration=False)
        check_no_probes(config)
        return config

    def _without_hydra(self, choices: tuple[str, ...]) -> DictConfig:
        config = without_hydra(copy.deepcopy(self.composed(choices)))
        if INTO_HYDRA.search(OmegaConf.to_yaml(config)):
            raise ValueError(f"{choices} may refer to Hydra's part of the config")
        return config

    def config(self, overrides: list[str]) -> dict[str, Any]:
        """As `job_config` (ConfigError)."""
        try:
            if any("hydra.searchpath" in text for text in overrides):
                raise ValueError("hydra.searchpath may turn values into groups")
            values = [override for text in overrides if (override := self.value(text)) is not None]
            for override in values:
                if "hydra" in override.get_key_element() or INTO_HYDRA.search(str(override.input_line)):
                    raise ValueError(f"{override.input_line} may refer to Hydra's part of the config")
            bare = self._bare(self.choices(overrides))
            config = copy.deepcopy(bare)
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
            if bare.get("probe") == NO_PROBES != config.get("probe"):
                raise ValueError("options of probes follow probe=none")
            return plain(config)
        except Exception:  # Hydra composes the job, or reports what is wrong
            return job_config(self.hydra, self.command.name, overrides, self.command.multirun)

    def part(self, overrides: list[str]) -> dict[str, Any]:
        """Hydra's part of a job's config, which is that of its choices (`hydra_of`)."""
        all_choose = any("hydra.searchpath" in text for text in overrides)
        return self._part(tuple(overrides) if all_choose else self.choices(overrides))

    def files(self, overrides: list[str]) -> list[ConfigFile]:
        """The files of --config-dir in a job's config."""
        return self._files(self.choices(overrides)) if self.command.extra is not None else []

    def _files_of(self, choices: Sequence[str]) -> list[ConfigFile]:
        command = self.command
        assert command.extra is not None
        try:
            defaults = self.hydra.config_loader.compute_defaults_list(command.name, list(choices), RunMode.RUN).defaults
        except HydraException:  # reported where the config is composed
            return []
        names = dict.fromkeys(f"{part.config_path}.yaml" for part in defaults)
        taken = [name for name in names if (command.extra / name).is_file()]
        return [ConfigFile(name, str(command.extra), (command.config_dir / name).is_file()) for name in taken]


def job_config(hydra: Hydra, name: str, overrides: list[str], multirun: bool = False) -> dict[str, Any]:
    """A job's config without Hydra's part, as plain containers, interpolations resolved (ConfigError)."""
    config = composed(hydra, name, overrides)
    part = hydra_of(hydra_part(config, multirun), overrides)
    config = without_hydra(config)
    if not REFERENCE.search(OmegaConf.to_yaml(config)):
        return plain(config)
    unresolved: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    with as_job(unresolved, part):
        check_references(unresolved)
        return plain(config)


def without_hydra(config: DictConfig) -> DictConfig:
    with flag_override(config, ["struct", "readonly"], False):
        config.pop("hydra")
    return config
