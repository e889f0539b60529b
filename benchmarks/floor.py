"""The unavoidable arithmetic of a computation, and the speed of arithmetic on this machine.

The functions count multiply-adds of matrix products, for one stream unless stated otherwise. Elementwise operations
do not count, and neither does a one-hot input, which selects a row of a matrix.
"""

import statistics
from collections.abc import Sequence

import torch

from benchmarks.sizes import Size
from benchmarks.timing import seconds_of

GATES = 4  # of an LSTM cell


def matrix_speed(device: torch.device, repeats: int = 7) -> float:
    """Multiply-adds per second in the product of two large float32 matrices, median over repeats."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.ones(n, n, device=device) for _ in range(2))
    seconds_of(lambda: a @ b, device)  # warms up
    return n**3 / statistics.median(seconds_of(lambda: a @ b, device) for _ in range(repeats))


def state_products(size: Size) -> int:
    """One step: products of the gates with h of each layer and of the layer below."""
    matrices = 2 * size.layers - 1  # its own h in each layer, and h of the layer below in all but the first
    return matrices * GATES * size.hidden**2


def recurrent_products(size: Size) -> int:
    """One step of the forward pass through the recurrent layers."""
    return state_products(size) + GATES * size.hidden * (size.embedding or 0)


def training_products(size: Size, steps: int, losses: int) -> int:
    """One update, all streams: forward pass, gradient of the inputs, gradient of the weights.

    Arguments:
        steps: length of the window.
        losses: steps that are decoded.
    """
    return 3 * size.batch * (steps * recurrent_products(size) + losses * size.hidden * size.symbols)


def probe_products(size: Size, positions: Sequence[int]) -> int:
    """One probe, all streams: a forward pass to the last position, then back from each position.

    A position has position + 1 lags, and each lag is one step back through all layers. Gradients of inputs and weights
    are not needed.
    """
    forward = (max(positions) + 1) * recurrent_products(size)
    back = sum(position + 1 for position in positions) * state_products(size)
    decoding = 2 * len(positions) * size.hidden * size.symbols
    return size.batch * (forward + back + decoding)
