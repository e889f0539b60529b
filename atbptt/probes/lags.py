"""The window of a probe, its loss positions, and the steps that lie a lag before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from atbptt.models import Halves, LossFunction, State, losses_of


@dataclass(frozen=True)
class ProbeWindow:
    """W steps of B streams, and the P steps whose losses are differentiated.

    Attributes:
        halves: of the model.
        loss: (outputs, targets) -> losses.
        inputs, targets: (W, B, ...).
        state: before the window, detached.
        positions: of the losses, in ascending order.
    """

    halves: Halves
    loss: LossFunction
    inputs: Tensor
    targets: Tensor
    state: State
    positions: list[int]

    def losses(self, features: Tensor, at: Any, dtype: torch.dtype) -> Tensor:
        """Losses of the steps `at`, (steps, B), from the features of the model's first half."""
        return losses_of(self.loss, self.halves.decode(features), self.targets[at]).to(dtype)


class Kept:
    """A tensor (T, B, n) with a view of each step, made once because making views takes time."""

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole
        self.steps = whole.unbind(0)

    def at(self, cells: Cells) -> Tensor:
        """The rows of these steps: (P, B, n), or (B, n) if P is 1."""
        if cells.count == 1:
            return self.steps[cells.last]
        if cells.spacing:  # a view
            return self.whole[cells.last - (cells.count - 1) * cells.spacing : cells.last + 1 : cells.spacing]
        return self.whole.index_select(0, cells.steps)


@dataclass(frozen=True)
class Cells:
    """One step of the window for each of P loss positions.

    Attributes:
        count: P.
        last: the last step.
        spacing: steps from one to the next if they are evenly spaced, else 0.
        steps: all of them, (P,), on the device.
    """

    count: int
    last: int
    spacing: int
    steps: Tensor


@dataclass(frozen=True)
class Segment:
    """Consecutive lags at which the same P' loss positions have not reached the window's start.

    Attributes:
        lag: how many steps the first cells lie before the losses.
        cells: at each lag.
        steps: of the cells, (lags, P').
    """

    lag: int
    cells: list[Cells]
    steps: Tensor


def segments(positions: list[int], longest: int, device: torch.device) -> Iterator[Segment]:
    """All lags of ascending positions in order, at most `longest` in a segment."""
    lag = 0
    while lag <= positions[-1]:
        left = [position for position in positions if position >= lag]
        lags = min(longest, left[0] + 1 - lag)
        steps = torch.tensor(left, device=device) - torch.arange(lag, lag + lags, device=device)[:, None]
        gaps = {later - earlier for earlier, later in pairwise(left)}
        spacing = gaps.pop() if len(gaps) == 1 else 0
        cells = [Cells(len(left), left[-1] - lag - index, spacing, steps[index]) for index in range(lags)]
        yield Segment(lag, cells, steps)
        lag += lags
