"""Compose runs from conf/, check them all, run them: python launch.py -m truncation=adaptive lr=1,10"""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from atbptt.command import main
from atbptt.launching import job


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def show(config: DictConfig) -> None:
    """What Hydra answers itself: --help, --cfg, --info."""
    job(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).parent / "conf", show))
