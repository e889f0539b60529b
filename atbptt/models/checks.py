"""What a model and a loss must make, said where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError, require
from atbptt.models.states import State, tensors


def check_streams(inputs: Tensor, targets: Tensor) -> None:
    """Raise a `ConfigError` unless inputs and targets are streams of the same (T, B)."""
    for name, values in (("inputs", inputs), ("targets", targets)):
        require(isinstance(values, Tensor), name, type(values).__name__, "must be a tensor")
    shapes = tuple(inputs.shape[:2]), tuple(targets.shape[:2])
    same = shapes[0] == shapes[1] and len(shapes[0]) == 2 and min(shapes[0]) >= 1
    rule = "must begin with the same (T, B), time before streams, none of them 0"
    require(same, "inputs and targets", shapes, rule)


def pair_of(model: nn.Module, made: Any) -> tuple[Tensor, State]:
    """What a model returned, which must be (outputs, state) (ConfigError)."""
    if not (isinstance(made, tuple | list) and len(made) == 2 and isinstance(made[0], Tensor)):
        kind = f"{type(made).__name__} of {len(made)}" if isinstance(made, tuple | list) else type(made).__name__
        kind = "null" if made is None else kind
        raise ConfigError("model", f"(={type(model).__name__}) must return the pair (outputs, state), not {kind}")
    return made[0], made[1]


def check_state(state: State, batch: int) -> None:
    """Raise a `ConfigError` unless a state is made of tensors (L, B, H) or (B, H) of real numbers."""
    try:
        parts = tensors(state)
    except TypeError as error:
        raise ConfigError("state", str(error).removeprefix("a recurrent state ")) from error
    require(len(parts) > 0, "state", state, "must hold a tensor at least")
    for part in parts:
        fits = part.is_floating_point() and part.dim() in (2, 3) and part.shape[-2] == batch
        rule = f"must be of floating point and of shape (L, B, H) or (B, H), B = {batch} (batch_first=False in torch)"
        require(fits, "state", f"{tuple(part.shape)} {part.dtype}", rule)


def check_outputs(outputs: Tensor, inputs: Tensor) -> None:
    """Raise a `ConfigError` unless outputs have the axes of their inputs first, time before streams."""
    made, expected = tuple(outputs.shape[:2]), tuple(inputs.shape[:2])
    require(made == expected, "outputs", made, f"must have the axes (T, B) of the inputs first, {expected}")


def losses_of(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    """loss(outputs, targets), which must be (T, B) as the targets are (ConfigError)."""
    if not callable(loss):
        raise ConfigError("loss", f"(={loss}) must be a function of (outputs, targets)")
    losses = loss(outputs, targets)
    if not isinstance(losses, Tensor):
        raise ConfigError("loss", f"(={type(losses).__name__}) must return a tensor (T, B)")
    if outputs.requires_grad and torch.is_grad_enabled() and not losses.requires_grad:
        raise ConfigError("loss", "must depend on the model's outputs")
    made, expected = tuple(losses.shape), tuple(targets.shape[:2])
    rule = f'must have the shape (T, B) of its targets, {expected}: one a step and stream, as with reduction="none"'
    require(made == expected, "loss", made, rule)
    return losses


def widened(values: Tensor) -> Tensor:
    """Inputs or targets as a model and a loss take them: symbols as int64, however few bytes they are stored in."""
    return values if values.is_floating_point() else values.long()
