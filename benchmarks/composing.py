"""Settings and trainers as the command line makes them."""

import logging

import torch

from atbptt.config import CONFIG_NAME, Settings, composer, job_config, validated
from atbptt.runs import RunDirectory
from atbptt.system import Signals
from atbptt.training import Costs, Parts, Trainer
from benchmarks.machine import ROOT


def settings_of(*overrides: str) -> Settings:
    """The settings of `python launch.py OVERRIDES`."""
    with composer(ROOT / "conf") as hydra:
        return validated(job_config(hydra, CONFIG_NAME, list(overrides)))


def trainer_of(settings: Settings, parts: Parts, device: torch.device) -> Trainer:
    """The project's training loop before its first window. It writes no files."""
    return Trainer(settings, parts, RunDirectory(settings), device, logging.getLogger(__name__), Signals(), Costs())
