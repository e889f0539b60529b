"""Losses, which of them count, and their mean over a window, which decodes a few steps at a time to save memory."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atbptt.errors import ConfigError, require
from atbptt.models.nested import Nested, at, axes, map_tensors, tensors

# (outputs (T, B, ...), targets (T, B, ...)) -> losses (T, B) in nats, or the pair of them and which of them count
LossFunction = Callable[[Nested, Nested], Tensor | tuple[Tensor, Tensor]]
OUTPUTS = 2**23  # outputs decoded at once: 32 MB of logits; with fewer, matrix products are slower


@overload
def cross_entropy(logits: Tensor, symbols: Tensor, ignore_index: None = None) -> Tensor: ...


@overload
def cross_entropy(logits: Tensor, symbols: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]: ...


def cross_entropy(logits: Tensor, symbols: Tensor, ignore_index: int | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """Cross entropy (T, B) in nats of logits (T, B, V) at symbols (T, B).

    With `ignore_index`, the pair of it and which losses count (T, B): those of all other symbols.
    """
    ignored = -100 if ignore_index is None else ignore_index
    flat = nn.functional.cross_entropy(logits.flatten(0, 1), symbols.flatten(), ignore_index=ignored, reduction="none")
    losses = flat.view(symbols.shape)
    return losses if ignore_index is None else (losses, symbols != ignore_index)


def steps_at_once(batch: int, output_size: int) -> int:
    """How many steps of `batch` streams with `output_size` outputs each are decoded at once; at least 1."""
    return max(1, OUTPUTS // (batch * output_size))


def losses_of(loss: LossFunction, outputs: Nested, targets: Nested) -> Tensor:
    """loss(outputs, targets), (T, B), of all steps, whether they count or not (see `counted_of`).

    Raises:
        ConfigError: it is something else, or does not depend on the outputs.
    """
    losses = _pair(loss, outputs, targets)[0]
    if torch.is_grad_enabled() and not losses.requires_grad and any(part.requires_grad for part in tensors(outputs)):
        raise ConfigError("loss", "must depend on the model's outputs")
    made, expected = tuple(losses.shape), axes(targets)
    rule = f'must have the shape (T, B) of its targets, {expected}: one a step and stream, as with reduction="none"'
    require(made == expected, "loss", made, rule)
    return losses


def counted_of(loss: LossFunction, outputs: Nested, targets: Nested) -> Tensor | None:
    """Which losses count, (T, B), if the loss returns the pair of losses and that; else None.

    Raises:
        ConfigError: it is no such mask.
    """
    counted = _pair(loss, outputs, targets)[1]
    if counted is not None:
        check_counted(counted, axes(targets), "loss")
    return counted


def counted_by(loss: LossFunction, targets: Nested, output: Nested | None) -> Tensor | None:
    """Which losses of targets (T, B, ...) count, for a loss that says so; see `output_of_step`."""
    if output is None:
        return None
    of_all = axes(targets)
    with torch.no_grad():
        outputs = map_tensors(lambda part: part.expand(*of_all, *part.shape).contiguous(), output)
        return counted_of(loss, outputs, targets)


def both_counted(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What counts for both, of two masks or weights, which may be None."""
    return other if one is None else one if other is None else one * other


def check_counted(counted: Tensor, shape: tuple[int, ...], name: str = "counted") -> None:
    """Raise a `ConfigError` unless it tells which losses count: (T, B) of booleans, or of weights from 0 on."""
    kind = type(counted).__name__
    require(isinstance(counted, Tensor), name, kind, "must say which losses count by a tensor (T, B)")
    made = tuple(counted.shape)
    require(made == shape, name, made, f"must say which losses count in the shape (T, B) of the targets, {shape}")
    plain = counted.layout == torch.strided and not counted.requires_grad
    rule = "must say which losses count by a dense tensor without a gradient"
    require(plain, name, "sparse" if counted.layout != torch.strided else "requires_grad", rule)
    if counted.dtype != torch.bool:
        real = counted.is_floating_point()
        rule = "must say which losses count by booleans, or by weights of floating point"
        require(real, name, str(counted.dtype), rule)
        wrong = counted[~(counted.isfinite() & (counted >= 0))]
        rule = "must weigh losses by finite numbers from 0 on"
        require(not len(wrong), name, wrong[0].item() if len(wrong) else None, rule)


def shares_of(counted: Tensor) -> Tensor:
    """The share of each loss in the mean of those that count, as float64; NaN if none does."""
    weights = counted.double()
    return weights / weights.sum()


def share_counted(weights: Tensor) -> float:
    """The share of losses that count; of weighted ones, the share with whose mean theirs has the same variance."""
    return float(weights.double().sum().square() / weights.double().square().sum() / weights.numel())


def _pair(loss: LossFunction, outputs: Nested, targets: Nested) -> tuple[Tensor, Tensor | None]:
    if not callable(loss):
        raise ConfigError("loss", f"(={loss}) must be a function of (outputs, targets)")
    made: Any = loss(outputs, targets)
    losses, counted = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(losses, Tensor):
        kind = type(made).__name__
        raise ConfigError("loss", f"(={kind}) must return a tensor (T, B), or the pair of it and which losses count")
    return losses, counted


def mean_loss(
    model: nn.Module,
    decode: Callable[[Nested], Nested],
    loss: LossFunction,
    features: Nested,
    targets: Nested,
    steps: int | None = None,
    counted: Tensor | None = None,
) -> Tensor:
    """The mean of loss(decode(features), targets), a scalar that can be differentiated once.

    Of features (T, B, ...) at most `steps` are decoded at once, if they are one tensor. If T is larger, each part is
    differentiated as soon as it is decoded and its outputs are freed; `backward` only scales the gradient. With
    `counted`, (T, B), the mean of the losses that count, of which there must be one.
    """
    shares = None if counted is None else shares_of(counted)
    if steps is None or not isinstance(features, Tensor) or len(features) <= steps:
        losses = losses_of(loss, decode(features), targets)
        return losses.mean() if shares is None else _weighted_sum(losses, shares)
    parameters = (parameter for parameter in model.parameters() if parameter.requires_grad)
    mean: Tensor = _MeanLossInParts.apply(decode, loss, features, targets, shares, steps, *parameters)
    return mean


def _weighted_sum(losses: Tensor, shares: Tensor) -> Tensor:
    kind = torch.promote_types(losses.dtype, torch.float32)  # in half precision, small shares would be rounded alike
    return (losses.to(kind) * shares.to(kind)).sum()


class _MeanLossInParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        decode: Callable[[Tensor], Nested],
        loss: LossFunction,
        features: Tensor,
        targets: Nested,
        shares: Tensor | None,
        steps: int,
        *parameters: Tensor,
    ) -> Tensor:
        count = features.shape[0] * features.shape[1]
        parts = -(-len(features) // steps)
        means: list[Tensor] = []
        of_features: list[Tensor] = []
        of_parameters: list[Tensor | None] = [None] * len(parameters)
        stop = 0
        for part in features.tensor_split(parts):
            start, stop = stop, stop + len(part)
            leaf = part.detach().requires_grad_()
            with torch.enable_grad():
                outputs = decode(leaf.clone())  # a copy, since decode may change it in place
                losses = losses_of(loss, outputs, at(targets, slice(start, stop)))
                mean = losses.sum() / count if shares is None else _weighted_sum(losses, shares[start:stop])
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
        return None, None, of_features, None, None, None, *of_parameters


def _sum(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    return more if total is None else total if more is None else total + more
