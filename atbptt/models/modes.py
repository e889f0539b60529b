"""How a model runs for a while: without dropout, without gradients of its parameters, without subnormal numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, the model is in evaluation mode (no dropout); then each of its modules in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


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


@contextmanager
def thawed(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within `frozen`: these parameters are in the graph of forward passes after all."""
    chosen = list(parameters)
    for parameter in chosen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(False)


@contextmanager
def flushing_subnormals() -> Iterator[None]:
    """Within, subnormal numbers are zero, on this thread; then as it was.

    Adjoints vanish into them, and a CPU takes ten times as long for each.
    """
    flushed = float(torch.tensor(1e-300, dtype=torch.float64) * 1e-20) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


@contextmanager
def native_layers() -> Iterator[None]:
    """Within, torch's recurrent layers use no library.

    cuDNN refuses their backward pass in evaluation mode; mkldnn keeps a workspace of megabytes for every step, and
    step by step is slower (H = 900, B = 32, W = 400: 1.8 instead of 0.6 GB, 12.8 instead of 4.8 s).
    """
    mkldnn = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # its context manager warns of other settings it touches
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mkldnn.enabled = mkldnn
