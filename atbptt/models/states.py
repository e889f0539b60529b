"""Recurrent states: a tensor, or tuples, lists and dicts of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

State = Any


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """The state with `function` applied to each tensor, in the same structure.

    Raises:
        TypeError: the state holds something that is no tensor.
    """
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple) and hasattr(state, "_fields"):  # a NamedTuple takes its parts one by one
        return type(state)(*(map_state(function, part) for part in state))
    if isinstance(state, tuple | list):
        return type(state)(map_state(function, part) for part in state)
    if isinstance(state, dict):
        return {key: map_state(function, part) for key, part in state.items()}
    raise TypeError(
        f"a recurrent state must be a tensor, or a tuple, list or dict of tensors, not {type(state).__name__}"
    )


def tensors(state: State) -> list[Tensor]:
    """The state's tensors, in a fixed order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_state(note, state)
    return found


def leaves(state: State) -> State:
    """A copy without history whose gradients can be asked for."""
    return map_state(lambda part: part.detach().clone().requires_grad_(), state)


def detach(state: State) -> State:
    """The state without its history: where backpropagation is cut."""
    return map_state(Tensor.detach, state)
