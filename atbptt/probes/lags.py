"""Which steps of a probe window are how many steps before its loss positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


class Kept:
    """Something of every step, (T, B, n), with the view of each step at hand, which takes time to make."""

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole
        self.steps = whole.unbind(0)

    def at(self, cells: Cells) -> Tensor:
        """What was kept of these steps: (P, B, n), or (B, n) where P is 1."""
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
        last: the last one.
        spacing: steps between one and the next, where they are evenly spaced; else 0.
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
        lag: how many steps before the losses' the first cells are.
        cells: at each lag.
        steps: the same, (lags, P').
    """

    lag: int
    cells: list[Cells]
    steps: Tensor


def segments(positions: list[int], longest: int, device: torch.device) -> Iterator[Segment]:
    """All lags in order, cut where a position reaches the window's start and after `longest` lags.

    Arguments:
        positions: in ascending order.
    """
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
