"""The start of `python launch.py` and `atbptt launch`: what must be in order before the imports that take seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from atbptt.interrupts import end_silently
from atbptt.system import needed_by, open_standard_streams, program


def launch(arguments: Sequence[str], conf: Path) -> NoReturn:
    """Compose runs from the YAML files in `conf`, check all of them, run them, and end the process with the exit code.

    Arguments:
        arguments: what the user typed: `-m truncation=adaptive lr=1,10`.
        conf: the folder of the shipped files; that of `--config-dir` comes before it.
    """
    open_standard_streams()
    end_silently()
    with needed_by(program("launch")):
        import hydra
        from omegaconf import DictConfig, OmegaConf

        from atbptt.config import CONFIG_NAME, VERSION_BASE
        from atbptt.sweeps import leave, main
    OmegaConf.register_new_resolver("program", program, replace=True)  # for the help's examples

    @hydra.main(version_base=VERSION_BASE, config_path=str(conf), config_name=CONFIG_NAME)
    def show(config: DictConfig) -> None:
        """Have Hydra answer --help, --info and --shell-completion."""

    leave(main(arguments, conf, show))
