"""Recurrent states: a tensor, or tuples, lists and dicts of them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

State = Any


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """The state with `function` applied to each tensor; a `TypeError` if a part is not one."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple) and hasattr(state, "_fields"):  # a NamedTuple takes its parts one by one
        return type(state)(*(map_state(function, part) for part in state))
    if isinstance(state, tuple | list):
        return type(state)(map_state(function, part) for part in state)
    if isinstance(state, dict):
        return {key: map_state(function, part) for key, part in state.items()}
    kind = type(state).__name__
    raise TypeError(f"a recurrent state must be a tensor, or a tuple, list or dict of tensors, not {kind}")


def tensors(state: State) -> list[Tensor]:
    """The state's tensors, in a fixed order."""
    found: list[Tensor] = []
    map_state(lambda tensor: found.append(tensor) or tensor, state)  # type: ignore[func-returns-value]
    return found


def leaves(state: State) -> State:
    """A copy without history that requires gradients."""
    return map_state(lambda part: part.detach().clone().requires_grad_(), state)


def detach(state: State) -> State:
    """The state without history, where backpropagation is cut."""
    return map_state(Tensor.detach, state)
