"""Losses: a function of outputs and targets, the commonest one, and the mean of a window's.

Where outputs are many, the mean is taken a few steps at a time: memory does not grow with a window's logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atbptt.models.checks import losses_of

# (outputs (T, B, ...), targets (T, B, ...)) -> losses (T, B) in nats
LossFunction = Callable[[Tensor, Tensor], Tensor]
OUTPUTS = 2**23  # numbers that a model puts out at once: 32 MB of logits; with fewer, the decoder's products are slower


def cross_entropy(logits: Tensor, symbols: Tensor) -> Tensor:
    """Cross entropy in nats, one a step and stream.

    Arguments:
        logits: (T, B, V).
        symbols: (T, B), 0..V-1.

    Returns:
        (T, B).
    """
    flat = nn.functional.cross_entropy(logits.flatten(0, 1), symbols.flatten(), reduction="none")
    return flat.view(symbols.shape)


def steps_at_once(batch: int, output_size: int) -> int:
    """Steps of `batch` streams, `output_size` numbers each, that are decoded at once; at least 1."""
    return max(1, OUTPUTS // (batch * output_size))


def mean_loss(
    model: nn.Module,
    decode: Callable[[Tensor], Tensor],
    loss: LossFunction,
    features: Tensor,
    targets: Tensor,
    steps: int | None = None,
) -> Tensor:
    """The mean of loss(decode(features), targets), a scalar to differentiate once.

    Arguments:
        model: whose parameters get a gradient, but for those that require none.
        decode: its half that makes outputs (T, B, ...) of features (see `halves`).
        features: (T, B, ...).
        targets: (T, B, ...).
        steps: the most that are decoded at once; all if left out. Where T is more, each part is differentiated as
            soon as it is decoded and its outputs are dropped, so that `backward` has only to scale the gradient.
    """
    if steps is None or len(features) <= steps:
        return losses_of(loss, decode(features), targets).mean()
    parameters = (parameter for parameter in model.parameters() if parameter.requires_grad)
    mean: Tensor = _MeanLossInParts.apply(decode, loss, features, targets, steps, *parameters)
    return mean


class _MeanLossInParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        decode: Callable[[Tensor], Tensor],
        loss: LossFunction,
        features: Tensor,
        targets: Tensor,
        steps: int,
        *parameters: Tensor,
    ) -> Tensor:
        count = targets.shape[0] * targets.shape[1]
        parts = -(-len(features) // steps)
        means: list[Tensor] = []
        of_features: list[Tensor] = []
        of_parameters: list[Tensor | None] = [None] * len(parameters)
        for part, its_targets in zip(features.tensor_split(parts), targets.tensor_split(parts), strict=True):
            leaf = part.detach().requires_grad_()
            with torch.enable_grad():
                outputs = decode(leaf.clone())  # a copy: it may be changed in place
                mean = losses_of(loss, outputs, its_targets).sum() / count
            found = torch.autograd.grad(mean, [leaf, *parameters], allow_unused=True)
            means.append(mean.detach())
            of_features.append(torch.zeros_like(leaf) if found[0] is None else found[0])
            # Not in place: two parameters that are only added have one gradient.
            of_parameters = [_sum(total, more) for total, more in zip(of_parameters, found[1:], strict=True)]
        ctx.save_for_backward(torch.cat(of_features), *of_parameters)
        return torch.stack(means).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_features, *of_parameters = (None if saved is None else saved * upstream for saved in ctx.saved_tensors)
        return None, None, of_features, None, None, *of_parameters


def _sum(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    return more if total is None else total if more is None else total + more
