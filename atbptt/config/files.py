"""The YAML files that a config takes from the folder of --config-dir."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.hydra import Hydra
from hydra.errors import HydraException
from hydra.types import RunMode

from atbptt.config.composing import Command


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file of the folder of --config-dir; as text, where it is taken from."""

    name: str  # relative to the folder: model/gru.yaml
    folder: str
    replaces: bool  # whether there is a shipped file of this name

    def __str__(self) -> str:
        return f"{self.name} is taken from {self.folder}{', not the shipped one' if self.replaces else ''}"


def config_files(hydra: Hydra, command: Command, choices: Sequence[str]) -> list[ConfigFile]:
    """The files of --config-dir in the config of these choices of groups; none if it cannot be composed."""
    assert command.extra is not None
    try:
        defaults = hydra.config_loader.compute_defaults_list(command.name, list(choices), RunMode.RUN).defaults
    except HydraException:  # reported where the config is composed
        return []
    names = dict.fromkeys(f"{part.config_path}.yaml" for part in defaults)
    taken = [name for name in names if (command.extra / name).is_file()]
    return [ConfigFile(name, str(command.extra), (command.config_dir / name).is_file()) for name in taken]
