"""What a model and a loss must make, said where they do not."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from atbptt.errors import ConfigError, require
from atbptt.states import State, tensors


def check_state(state: State, batch: int) -> None:
    """Raise a `ConfigError` unless a state is made of tensors (L, B, H) or (B, H) of real numbers."""
    try:
        parts = tensors(state)
    except TypeError as error:
        raise ConfigError("state", str(error).removeprefix("a recurrent state ")) from error
    require(len(parts) > 0, "state", state, "must hold a tensor at least")
    for part in parts:
        fits = part.is_floating_point() and part.dim() in (2, 3) and part.shape[-2] == batch
        rule = f"must be of floating point and of shape (L, B, H) or (B, H), B = {batch}"
        require(fits, "state", f"{tuple(part.shape)} {part.dtype}", rule)


def check_outputs(outputs: Tensor, inputs: Tensor) -> None:
    """Raise a `ConfigError` unless outputs have the axes of their inputs first, time before streams."""
    made, expected = tuple(outputs.shape[:2]), tuple(inputs.shape[:2])
    require(made == expected, "outputs", made, f"must have the axes (T, B) of the inputs first, {expected}")


def losses_of(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    """loss(outputs, targets), which must be (T, B) as the targets are (ConfigError)."""
    losses = loss(outputs, targets)
    made, expected = tuple(losses.shape), tuple(targets.shape[:2])
    require(made == expected, "loss", made, f"must have the shape (T, B) of its targets, {expected}")
    return losses
