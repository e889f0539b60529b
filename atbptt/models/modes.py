"""Context managers: for a while without dropout, without gradients of parameters, without subnormal numbers."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from atbptt.randomness import kept_generators


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout); afterwards each module is in its former mode."""
    with _kept_modes(model):
        model.eval()
        yield


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Afterwards modes and buffers of the model are what they were, and so are the global generators."""
    of_modules = [module._buffers for module in model.modules()]
    buffers = [(own, name, b, b.clone()) for own in of_modules for name, b in own.items() if b is not None]
    with kept_generators(), _kept_modes(model):
        try:
            yield
        finally:
            for own, name, buffer, value in buffers:
                own[name] = buffer.copy_(value)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Dropout of torch's modules has no effect; other modules keep their mode."""
    rates = [module for module in model.modules() if isinstance(vars(module).get("dropout"), int | float)]
    before = [module.dropout for module in rates]  # of recurrent layers and attention
    with _kept_modes(model):
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        try:
            for module in rates:
                module.dropout = 0.0  # type: ignore[assignment]
            yield
        finally:
            for module, rate in zip(rates, before, strict=True):
                module.dropout = rate


@contextmanager
def _kept_modes(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def frozen(model: nn.Module) -> AbstractContextManager[None]:
    """The model's parameters require no gradient."""
    return _requiring([p for p in model.parameters() if p.requires_grad], False)


def thawed(parameters: Iterable[nn.Parameter]) -> AbstractContextManager[None]:
    """Within `frozen`: these parameters require a gradient after all."""
    return _requiring(list(parameters), True)


@contextmanager
def _requiring(parameters: list[nn.Parameter], required: bool) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(required)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(not required)


@contextmanager
def flushing_subnormals() -> Iterator[None]:
    """Subnormal numbers are zero, on this thread.

    Adjoints vanish into them, and each takes a CPU ten times as long.
    """
    flushed = float(torch.tensor(1e-300, dtype=torch.float64) * 1e-20) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


@contextmanager
def native_layers() -> Iterator[None]:
    """torch's recurrent layers use neither cuDNN nor mkldnn.

    cuDNN has no backward pass in evaluation mode; mkldnn keeps megabytes of workspace for every step and is slower
    step by step (H = 900, B = 32, W = 400: 1.8 instead of 0.6 GB, 12.8 instead of 4.8 s).
    """
    mkldnn = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # its context manager warns about other settings
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mkldnn.enabled = mkldnn
