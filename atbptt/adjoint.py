"""A recurrence whose gradient with respect to the state is multiplied on its way from each step to the step before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from atbptt.models import State, map_state, native_layers


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
