"""Losses, and their mean over a window, which decodes a few steps at a time to save memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atbptt.errors import ConfigError, require

# (outputs (T, B, ...), targets (T, B, ...)) -> losses (T, B) in nats
LossFunction = Callable[[Tensor, Tensor], Tensor]
OUTPUTS = 2**23  # outputs decoded at once: 32 MB of logits; with fewer, matrix products are slower


def cross_entropy(logits: Tensor, symbols: Tensor) -> Tensor:
    """Cross entropy (T, B) in nats of logits (T, B, V) at symbols (T, B)."""
    flat = nn.functional.cross_entropy(logits.flatten(0, 1), symbols.flatten(), reduction="none")
    return flat.view(symbols.shape)


def steps_at_once(batch: int, output_size: int) -> int:
    """How many steps of `batch` streams with `output_size` outputs each are decoded at once; at least 1."""
    return max(1, OUTPUTS // (batch * output_size))


def losses_of(loss: LossFunction, outputs: Tensor, targets: Tensor) -> Tensor:
    """loss(outputs, targets), (T, B); a `ConfigError` if it is something else, or does not depend on the outputs."""
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


def mean_loss(
    model: nn.Module,
    decode: Callable[[Tensor], Tensor],
    loss: LossFunction,
    features: Tensor,
    targets: Tensor,
    steps: int | None = None,
) -> Tensor:
    """The mean of loss(decode(features), targets), a scalar that can be differentiated once.

    Of features (T, B, ...) at most `steps` are decoded at once. If T is larger, each part is differentiated as soon as
    it is decoded and its outputs are freed; `backward` only scales the gradient.
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
                outputs = decode(leaf.clone())  # a copy, since decode may change it in place
                mean = losses_of(loss, outputs, its_targets).sum() / count
            found = torch.autograd.grad(mean, [leaf, *parameters], allow_unused=True)
            means.append(mean.detach())
            of_features.append(torch.zeros_like(leaf) if found[0] is None else found[0])
            # Not in place: two parameters may share one gradient tensor.
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
