"""Runs as a user's command line makes them, without the command line."""

from __future__ import annotations

import logging

import torch

from atbptt.config import CONFIG_NAME, Settings, composer, job_config, validated
from atbptt.runs import RunDirectory
from atbptt.system import Signals
from atbptt.training import Parts, Trainer
from benchmarks.machine import ROOT


def settings_of(*overrides: str) -> Settings:
    """The settings that `python launch.py OVERRIDES` would run with."""
    with composer(ROOT / "conf") as hydra:
        return validated(job_config(hydra, CONFIG_NAME, list(overrides)))


def trainer_of(settings: Settings, parts: Parts, device: torch.device) -> Trainer:
    """The project's training loop, before its first window. Nothing is written of it."""
    return Trainer(settings, parts, RunDirectory(settings), device, logging.getLogger(__name__), Signals())
