"""Recurrent states: a tensor, or tuples, lists and dicts of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
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


def begun_anew(state: State, first: State, resets: Tensor) -> State:
    """The state, but of the streams that begin anew, (B,), the first one; no gradient comes through it there."""
    if isinstance(state, Tensor):
        # The streams are the last axis but one, of (L, B, H) and (B, H).
        return torch.where(resets[:, None], first, state)
    if isinstance(state, dict):  # which two may have in another order
        return {key: begun_anew(part, first[key], resets) for key, part in state.items()}
    parts = (begun_anew(*pair, resets) for pair in zip(state, first, strict=True))
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


def resetting(resets: Tensor | None) -> list[int]:
    """The steps at which any stream begins anew."""
    return [] if resets is None else resets.any(dim=1).nonzero().flatten().tolist()


def recur_anew(
    recur: Callable[[Tensor, State], tuple[Tensor, State]],
    inputs: Tensor,
    state: State,
    resets: Tensor | None,
    first: State,
    steps: Sequence[int] | None = None,
) -> tuple[Tensor, State]:
    """recur(inputs, state), but in the first state before the steps at which streams begin anew.

    Arguments:
        inputs: (T, B, ...).
        resets: which streams begin anew, (T, B); None if none does.
        steps: those at which any does, in order, if they are known.
    """
    if resets is None:
        return recur(inputs, state)
    steps = resetting(resets) if steps is None else steps
    features, start = [], 0
    for stop in (*steps, len(inputs)):
        if stop > start:
            piece, state = recur(inputs[start:stop], state)
            features.append(piece)
        if stop < len(inputs):
            state = begun_anew(state, first, resets[stop])
        start = stop
    return torch.cat(features) if len(features) > 1 else features[0], state
