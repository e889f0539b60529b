"""One update: a window's loss, its gradient, clipping, a step of the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atbptt.models import Halves, LossFunction, State, detach, frozen, map_state, mean_loss, native_layers
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
) -> tuple[Tensor, Tensor, State]:
    """The forward pass of one window.

    Arguments:
        halves: of the model.
        stream: the whole stream that the window is cut from.
        state: the detached state at `window.start`.
        steps_at_once: the most steps that are decoded at once, see `mean_loss`.
        factors: what a policy multiplies the adjoint with on its way back through the window's steps, for scheme `tf`;
            None for the gradient as it is.

    Returns:
        The scalar to differentiate, the mean of the losses that the window counts (equal to it but for
        `buffer`, where it lacks what the look-ahead adds), and the detached state at `window.next_start`.
    """
    recur = halves.recur if factors is None else partial(recur_reweighted, halves.recur, factors=factors)
    inputs, targets = stream.read(window.start, window.stop)
    handed_over_at, counted_from, counted_to = (
        step - window.start for step in (window.next_start, window.loss_start, window.loss_stop)
    )
    pieces = []
    handed_over: State = state
    if handed_over_at > 0:
        piece, handed_over = recur(inputs[:handed_over_at], state)
        pieces.append(piece)
    after = handed_over
    if counted_to > handed_over_at:
        piece, after = recur(inputs[handed_over_at:counted_to], handed_over)
        pieces.append(piece)
    features = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    # The pre-roll is not decoded: its losses are not taken.
    mean = mean_loss(
        halves.model, halves.decode, loss, features[counted_from:], targets[counted_from:counted_to], steps_at_once
    )
    objective = mean
    if window.stop > window.loss_stop:
        with frozen(halves.model):
            ahead, _ = recur(inputs[counted_to:], after)
            beyond = mean_loss(halves.model, halves.decode, loss, ahead, targets[counted_to:], steps_at_once)
        objective = mean + beyond * (len(ahead) / window.losses)
    return objective, mean.detach(), detach(handed_over)


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, objective: Tensor, max_norm: float | None
) -> Tensor | None:
    """Differentiate, clip the gradient's norm at `max_norm`, update; the norm before clipping."""
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = None
    objective.backward()
    norm = None
    if max_norm is not None:
        norm = _clip([parameter.grad for parameter in parameters if parameter.grad is not None], max_norm)
    optimizer.step()
    return norm


def _clip(gradients: list[Tensor], max_norm: float) -> Tensor:
    """As `nn.utils.clip_grad_norm_`, whose grouping by device and type takes longer than a small model's clipping."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def recur_reweighted(
    recur: Callable[[Tensor, State], tuple[Tensor, State]], inputs: Tensor, state: State, factors: Sequence[float]
) -> tuple[Tensor, State]:
    """recur(inputs, state), run step by step, with the same values and another gradient.

    What comes back through the state from step t+1 (counted from 1) to step t is multiplied by factors[t-1]; the
    gradient of a step's own features is not. It takes one and a half times to three times as long as torch's layers do
    over all steps at once.

    Arguments:
        recur: a model, or its half that runs over time (see `models.halves`).
        inputs: (T, B, ...).
        state: before them.
        factors: T - 1 of them.
    """
    features = []
    with native_layers():
        for t, step in enumerate(inputs.split(1)):
            if t:
                factor = factors[t - 1]
                state = map_state(lambda part: _ScaledGradient.apply(part, factor), state)  # noqa: B023  (called at once)
            feature, state = recur(step, state)
            features.append(feature)
    return torch.cat(features), state


class _ScaledGradient(torch.autograd.Function):
    """The tensor itself; its gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream * ctx.factor, None
