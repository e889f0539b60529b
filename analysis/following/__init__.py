"""Runs shown in trackers while they go on: TensorBoard, MLflow, Weights & Biases."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loop import connect as connect, follow as follow, installed as installed
    from .tensorboard import write_events as write_events
else:  # each tracker is a package that may be missing
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
