"""One update: a window's loss, its gradient, clipping, a step of the optimizer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from atbptt.models import (
    Halves,
    LossFunction,
    Nested,
    State,
    at,
    axes,
    begun_anew,
    detach,
    frozen,
    joined,
    map_tensors,
    mean_loss,
    native_layers,
    tensors,
)
from atbptt.windows.schemes import Window
from atbptt.windows.streams import Stream


def window_loss(
    halves: Halves,
    loss: LossFunction,
    stream: Stream,
    window: Window,
    state: State,
    steps_at_once: int | None = None,
    factors: Sequence[float] | None = None,
    first: State = None,
) -> tuple[Tensor, Tensor, State]:
    """The scalar to differentiate, the mean of the counted losses, and the state at `window.next_start`, both detached.

    The first two differ by the look-ahead of scheme `buffer`. `state` is at `window.start`, detached; `factors` are the
    policy's `adjoint_factors`. Of a stream in which not all losses count, one of the window's must (see `averaged`).
    `first` is the state of streams that begin anew, if any do.
    """
    inputs, targets = stream.read(window.start, window.stop)

    def recur(start: int, stop: int, state: State, first: State = first) -> tuple[Nested, State]:
        begin, some = window.start + start, at(inputs, slice(start, stop))
        if factors is not None:
            anew = {step: stream.resets[begin + step] for step in stream.resetting(begin, window.start + stop)}  # type: ignore[index]
            return recur_reweighted(halves.recur, some, state, factors, anew, first)
        return stream.recur(halves, begin, some, state, first)

    handed_over_at, counted_from, counted_to = (
        step - window.start for step in (window.next_start, window.loss_start, window.loss_stop)
    )
    pieces = []
    handed_over: State = state
    if handed_over_at > 0:
        piece, handed_over = recur(0, handed_over_at, state)
        pieces.append(piece)
    after = handed_over
    if counted_to > handed_over_at:
        piece, after = recur(handed_over_at, counted_to, handed_over)
        pieces.append(piece)
    features = joined(pieces)

    def mean_of(features: Nested, start: int, stop: int) -> Tensor:
        counted = stream.counting_in(window.start + start, window.start + stop)
        of_steps = at(targets, slice(start, stop))
        return mean_loss(halves.model, halves.decode, loss, features, of_steps, steps_at_once, counted)

    losses, ahead_of = stream.losses(window.loss_start, window.loss_stop), stream.losses(window.loss_stop, window.stop)
    # The pre-roll is not decoded: its losses are not counted.
    if losses:
        mean = mean_of(at(features, slice(counted_from, None)), counted_from, counted_to)
    else:
        mean = torch.zeros((), device=tensors(features)[0].device)
    objective = mean if losses == (divisor := averaged(stream, window)) else mean * (losses / divisor)
    if ahead_of:
        with frozen(halves.model):
            length = window.stop - window.start
            ahead, _ = recur(counted_to, length, after, None if first is None else detach(first))
            beyond = mean_of(ahead, counted_to, length)
        objective = objective + beyond * (ahead_of / divisor)
    return objective, mean.detach(), detach(handed_over)


def averaged(stream: Stream, window: Window) -> float:
    """What the sum of a window's losses, as a mean over streams, is divided by: `window.losses` if all count.

    Else their share of all losses that the window differentiates, which may lie in its look-ahead; 0 if none counts.
    """
    losses = stream.losses(window.loss_start, window.stop)
    if window.stop == window.loss_stop:
        return losses
    return losses / (window.stop - window.loss_start) * window.losses


def pass_over(halves: Halves, stream: Stream, window: Window, state: State, first: State = None) -> State:
    """The state at `window.next_start`, of a window in which no loss counts."""
    if window.next_start == window.start:
        return state
    with torch.no_grad():
        inputs, _ = stream.read(window.start, window.next_start)
        return detach(stream.recur(halves, window.start, inputs, state, first)[1])


def recur_reweighted(
    recur: Callable[[Nested, State], tuple[Nested, State]],
    inputs: Nested,
    state: State,
    factors: Sequence[float],
    resets: Mapping[int, Tensor] = MappingProxyType({}),
    first: State = None,
) -> tuple[Nested, State]:
    """recur(inputs, state), run step by step, with the same values and a reweighted gradient.

    The gradient that flows through the state from step t+1 (counted from 1) to step t is multiplied by factors[t-1];
    that of a step's own features is not. Takes 1.5 to 3 times as long as torch's layers over all steps at once. At the
    steps in `resets` the streams (B,) given there begin anew, in the state `first`.
    """
    features = []
    with native_layers():
        for t in range(axes(inputs)[0]):
            if t:
                state = map_tensors(partial(_with_scaled_gradient, factor=factors[t - 1]), state)
            if t in resets:
                state = begun_anew(state, first, resets[t])
            feature, state = recur(at(inputs, slice(t, t + 1)), state)
            features.append(feature)
    return joined(features), state


def _with_scaled_gradient(tensor: Tensor, factor: float) -> Tensor:
    view = tensor.view_as(tensor)
    if view.requires_grad:
        view.register_hook(lambda gradient: gradient * factor)
    return view


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, objective: Tensor, max_norm: float | None
) -> Tensor | None:
    """Differentiate, clip the gradient's norm at `max_norm`, update; returns the norm before clipping."""
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = None
    objective.backward()
    norm = None if max_norm is None else clip(parameters, max_norm)
    optimizer.step()
    return norm


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the norm of the whole gradient at `max_norm`; returns the norm before.

    As nn.utils.clip_grad_norm_, whose grouping by device and type takes longer than clipping a small model.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
