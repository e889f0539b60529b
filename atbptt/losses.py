"""What a loss is to the training loop and the probes, and the commonest one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

# (outputs (T, B, ...), targets (T, B, ...)) -> losses (T, B) in nats
LossFunction = Callable[[Tensor, Tensor], Tensor]


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
