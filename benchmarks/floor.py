"""The arithmetic that a computation cannot do without, and how fast this machine does arithmetic.

Counted are the multiply-adds of matrix products, per stream where nothing else is said; what is elementwise is
left out. A one-hot input selects a row of a matrix, which takes none.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from benchmarks.sizes import Size
from benchmarks.timing import seconds_of

GATES = 4  # of an LSTM cell


def matrix_speed(device: torch.device, repeats: int = 7) -> float:
    """Multiply-adds a second in the product of two large float32 matrices, median over repeats."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.ones(n, n, device=device) for _ in range(2))
    seconds_of(lambda: a @ b, device)  # the library gets ready
    return n**3 / statistics.median(seconds_of(lambda: a @ b, device) for _ in range(repeats))


def state_products(size: Size) -> int:
    """Of one step: products of the gates with what depends on the state, h of every layer and of the layer below."""
    matrices = 2 * size.layers - 1  # each layer has one of its own h, all but the first one of the layer below
    return matrices * GATES * size.hidden**2


def recurrent_products(size: Size) -> int:
    """Of one step's forward pass through the recurrent layers."""
    return state_products(size) + GATES * size.hidden * (size.embedding or 0)


def training_products(size: Size, steps: int, losses: int) -> int:
    """Of one update, all streams: forward, gradient of the inputs, gradient of the weights; a product each.

    Arguments:
        steps: that the window reads.
        losses: steps of it that are decoded.
    """
    return 3 * size.batch * (steps * recurrent_products(size) + losses * size.hidden * size.symbols)


def probe_products(size: Size, positions: Sequence[int]) -> int:
    """Of one probe, all streams: a forward pass to the last position, then back from each position.

    A position has position + 1 lags, and each lag takes a step back through all layers. Gradients of the network's
    inputs and of the weights are not needed.
    """
    forward = (max(positions) + 1) * recurrent_products(size)
    back = sum(position + 1 for position in positions) * state_products(size)
    decoding = 2 * len(positions) * size.hidden * size.symbols
    return size.batch * (forward + back + decoding)
