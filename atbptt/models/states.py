"""Recurrent states: a tensor, or tuples, lists and dicts of them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atbptt.models.nested import Nested, at, axes, joined, map_tensors, tensors

State = Nested


def differentiable(state: State) -> list[Tensor]:
    """The state's tensors that have gradients: not counters and flags."""
    return [part for part in tensors(state) if part.is_floating_point()]


def leaves(state: State) -> State:
    """A copy without history that requires gradients."""
    return map_tensors(lambda part: part.detach().clone().requires_grad_(part.is_floating_point()), state)


def detach(state: State) -> State:
    """The state without history, where backpropagation is cut."""
    return map_tensors(Tensor.detach, state)


def streams_of(part: Tensor, streams: slice) -> Tensor:
    """Some streams of a part of the state: (L, B, H), (B, H), or (B,)."""
    return part[streams] if part.dim() == 1 else part[..., streams, :]


def begun_anew(state: State, first: State, resets: Tensor) -> State:
    """The state, but of the streams that begin anew, (B,), the first one; no gradient comes through it there."""
    of_rows = resets[:, None]
    return map_tensors(
        lambda part, begun: torch.where(resets if part.dim() == 1 else of_rows, begun, part), state, first
    )


def resetting(resets: Tensor | None) -> list[int]:
    """The steps at which any stream begins anew."""
    return [] if resets is None else resets.any(dim=1).nonzero().flatten().tolist()


def recur_anew(
    recur: Callable[[Nested, State], tuple[Nested, State]],
    inputs: Nested,
    state: State,
    resets: Tensor | None,
    first: State,
    steps: Sequence[int] | None = None,
) -> tuple[Nested, State]:
    """recur(inputs, state), but in the first state before the steps at which streams begin anew.

    Arguments:
        inputs: (T, B, ...).
        resets: which streams begin anew, (T, B); None if none does.
        steps: those at which any does, in order, if they are known.
    """
    if resets is None:
        return recur(inputs, state)
    steps = resetting(resets) if steps is None else steps
    length = axes(inputs)[0]
    features, start = [], 0
    for stop in (*steps, length):
        if stop > start:
            piece, state = recur(at(inputs, slice(start, stop)), state)
            features.append(piece)
        if stop < length:
            state = begun_anew(state, first, resets[stop])
        start = stop
    return joined(features), state
