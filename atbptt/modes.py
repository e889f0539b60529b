"""How a model runs for a while: without dropout, or without gradients of its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, the model is in evaluation mode (no dropout); then in the mode it was in."""
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within, forward passes of the model leave its parameters out of the graph."""
    thawed = [p for p in model.parameters() if p.requires_grad]
    for parameter in thawed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)
