"""The window of a probe, its loss positions, and the steps that lie a lag before them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from atbptt.models import Halves, LossFunction, State, losses_of


@dataclass(frozen=True)
class ProbeWindow:
    """W steps of B streams, and the P steps whose losses are differentiated."""

    halves: Halves
    loss: LossFunction
    inputs: Tensor  # (W, B, ...)
    targets: Tensor  # (W, B, ...)
    state: State  # before the window, detached
    positions: list[int]  # of the losses, in ascending order

    def losses(self, features: Tensor, at: Any, dtype: torch.dtype) -> Tensor:
        """Losses of the steps `at`, (steps, B), from the features of the model's first half."""
        return losses_of(self.loss, self.halves.decode(features), self.targets[at]).to(dtype)


@dataclass(frozen=True)
class Segment:
    """Consecutive lags at which the same P' loss positions have not reached the window's start."""

    lag: int  # how many steps the first cells lie before the losses
    steps: Tensor  # of the window at each lag, (lags, P'), on the device
    count: int  # P'
    last: int  # the last position's step at the first lag
    spacing: int  # steps from one position to the next if they are evenly spaced, else 0


def segments(positions: list[int], longest: int, device: torch.device) -> Iterator[Segment]:
    """All lags of ascending positions in order, at most `longest` in a segment."""
    lag = 0
    while lag <= positions[-1]:
        left = [position for position in positions if position >= lag]
        lags = min(longest, left[0] + 1 - lag)
        steps = torch.tensor(left, device=device) - torch.arange(lag, lag + lags, device=device)[:, None]
        gaps = {later - earlier for earlier, later in pairwise(left)}
        yield Segment(lag, steps, len(left), left[-1] - lag, gaps.pop() if len(gaps) == 1 else 0)
        lag += lags


class Kept:
    """A tensor (T, B, n) with a view of each step, made once because making views takes time."""

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole
        self.steps = whole.unbind(0)

    def at(self, segment: Segment, index: int) -> Tensor:
        """The steps at a lag of the segment: (P', B, n), or (B, n) if P' is 1."""
        last = segment.last - index
        if segment.count == 1:
            return self.steps[last]
        if segment.spacing:  # a view
            return self.whole[last - (segment.count - 1) * segment.spacing : last + 1 : segment.spacing]
        return self.whole.index_select(0, segment.steps[index])
