"""The window of a probe, its loss positions, and what is measured and summed up at each lag before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atbptt.models import Halves, LossFunction, Nested, State, at, axes, losses_of, resetting
from atbptt.probes.bias import mean_norms

if TYPE_CHECKING:
    from atbptt.probes.parameters import ParameterGradients

LAGS_AT_ONCE = 16  # lags that are summed at once


@dataclass(frozen=True)
class ProbeWindow:
    """W steps of B streams, and the P steps whose losses are differentiated."""

    halves: Halves
    loss: LossFunction
    inputs: Nested  # (W, B, ...)
    targets: Nested  # (W, B, ...)
    state: State  # before the window, detached
    positions: list[int]  # of the losses, in ascending order
    shares: Tensor | None = None  # of each loss in the mean, (P, B), where not all count
    resets: Tensor | None = None  # which streams begin anew before a step, (W, B), if any do
    first: State = None  # in which they begin

    @cached_property
    def length(self) -> int:
        return axes(self.inputs)[0]

    @cached_property
    def resetting(self) -> frozenset[int]:
        """The steps at which any stream begins anew."""
        return frozenset(resetting(self.resets))

    def reach(self) -> np.ndarray | None:
        """Whether a loss's sequence reaches back to a lag, (P, W, B): 1 or 0, NaN where the window does not."""
        if self.resets is None:
            return None
        steps = np.arange(self.length)
        # The step at which the last sequence began; before the window's first one if that is no beginning.
        begun = np.maximum.accumulate(np.where(self.resets.cpu().numpy(), steps[:, None], -1))
        lags, positions = steps + 1, np.array(self.positions)
        reached = lags[:, None] <= (positions[:, None] - begun[positions])[:, None, :]
        return np.where((lags > positions[:, None] + 1)[:, :, None], np.nan, reached)

    def of_mean(self) -> Tensor | None:
        """Factors (P, B) of the losses, each a mean over streams, with which their mean over P is that of all."""
        return None if self.shares is None else self.shares * self.shares.numel()

    def losses(self, features: Nested, steps: Any, dtype: torch.dtype) -> Tensor:
        """Losses of some steps, (steps, B), from the features of the model's first half."""
        return losses_of(self.loss, self.halves.decode(features), at(self.targets, steps)).to(dtype)


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


@dataclass(frozen=True)
class LagGradients:
    """Gradients of losses at P positions with respect to the states at lags 1..W; row 0 is lag 1.

    The loss at a position is the mean over the B streams. A position fewer than W steps into the window has no state
    at the largest lags: NaN there. A gradient that is not finite has infinite norm. Positions are in ascending order.
    Norms are of all losses, whether they count or not; averages are over those that count.

    Attributes:
        losses: (P, B).
        norms: phi, (P, W, B), over all layers and, for an LSTM, h and c together.
        component_norms: the same for each of C components (each state tensor of each layer), (C, P, W, B).
        components: their names, `hidden0`, `cell0`, ...
        kept_of_mean: (W,), the norm of the gradient averaged over streams and positions and summed over lags up to the
            row's.
        component_kept_of_mean: the same for each component, (C, W).
        weights: of each loss in R resamples, (R, P, B), each with the sum 1.
        resampled_kept_of_mean: `kept_of_mean` of each resample, (R, W).
        parameters: gradients of the recurrent parameters; None if they were not measured.
        unsuited: why the model was run step by step; None if its layers were taken apart.
        shares: of each loss in the mean over those that count, (P, B); None if all do. NaN if none does.
        reached: whether the loss's sequence reaches back to the lag, (P, W, B), 1 or 0; None if all do. Where it does
            not, norms are 0.
    """

    losses: np.ndarray
    norms: np.ndarray
    component_norms: np.ndarray
    components: tuple[str, ...]
    kept_of_mean: np.ndarray
    component_kept_of_mean: np.ndarray
    weights: np.ndarray
    resampled_kept_of_mean: np.ndarray
    parameters: ParameterGradients | None
    unsuited: str | None
    shares: np.ndarray | None = None
    reached: np.ndarray | None = None

    @property
    def reach(self) -> np.ndarray:
        """The share of the losses that count whose sequence reaches back to a lag, (W,)."""
        return np.ones(self.norms.shape[1]) if self.reached is None else mean_norms(self.reached, self.shares)

    def phi(self, norms: np.ndarray, average: str = "mean", position: int | None = None) -> np.ndarray:
        """Norms (P, W, B) averaged over the losses that count and reach back to the lag, (W,); NaN where none does.

        With a position's number, over the streams of that loss position alone.
        """
        chosen = slice(None) if position is None else slice(position, position + 1)
        shares = None if self.shares is None else self.shares[chosen]
        phi = mean_norms(norms[chosen], shares, average)
        if self.reached is None:
            return phi
        with np.errstate(invalid="ignore"):
            return phi / mean_norms(self.reached[chosen], shares)

    @property
    def counted(self) -> np.ndarray:
        """Which losses count, (P, B)."""
        return np.ones(self.losses.shape, dtype=bool) if self.shares is None else self.shares > 0

    @property
    def lags(self) -> int:
        """How many lags the losses that count have in the window."""
        positions = np.flatnonzero(self.counted.any(axis=1))
        return int((~np.isnan(self.norms[positions[-1], :, 0])).sum()) if len(positions) else 0


class LagSums:
    """Sums gradients with respect to states, some lags of a component at a time, to `LagGradients`."""

    def __init__(self, components: Sequence[str], window: ProbeWindow, losses: Tensor, weights: np.ndarray) -> None:
        self.components = tuple(components)
        self.losses = losses
        self.reach = window.reach()
        self.shares = None if window.shares is None else window.shares.double().cpu().numpy()
        self.resampling = weights if self.shares is None else _of_counted(weights, self.shares)
        self.weights = with_mean(self.resampling, losses)
        if window.shares is not None:
            self.weights[0] = window.shares
        count, lags = len(self.components), window.length
        self.squares = losses.new_full((count, len(losses), lags, losses.shape[1]), torch.nan, dtype=torch.float64)
        self.sums = [losses.new_zeros(1, 1)] * count  # of the gradients up to a lag, (1 + R, H)
        self.squares_of_sums = losses.new_full((count, lags, 1 + len(weights)), torch.nan, dtype=torch.float64)

    def add(self, component: int, row: int, gradients: Tensor) -> None:
        """Add (lags, P', B, H) of the last P' positions, from lag row + 1 on; lags must come in order."""
        left = gradients.shape[1]
        weights = self.weights[:, -left:].flatten(1)
        # A resample that has none of the positions left has no gradient.
        weights = (weights / weights.sum(dim=1, keepdim=True)).nan_to_num(nan=0.0)
        for some in gradients.split(LAGS_AT_ONCE):
            rows = slice(row, row + len(some))
            norms = torch.linalg.vector_norm(some, dim=-1, dtype=torch.float64)  # (lags, P', B)
            squares = norms.square().nan_to_num(nan=torch.inf, posinf=torch.inf)
            self.squares[component, -left:, rows] = squares.swapaxes(0, 1)
            sums = torch.matmul(weights, some.flatten(1, 2)).cumsum(dim=0) + self.sums[component]
            self.sums[component] = sums[-1]
            self.squares_of_sums[component, rows] = torch.linalg.vector_norm(sums, dim=-1, dtype=torch.float64).square()
            row += len(some)

    def result(self, parameters: ParameterGradients | None, unsuited: str | None = None) -> LagGradients:
        squares = self.squares.cpu().numpy()
        kept = self.squares_of_sums.cpu().numpy()
        lags = int((~np.isnan(squares[0, -1, :, 0])).sum())
        kept[:, lags:] = kept[:, lags - 1 : lags]  # nothing is added beyond the last position's lags
        return LagGradients(
            losses=self.losses.double().cpu().numpy(),
            shares=self.shares,
            reached=self.reach,
            norms=np.sqrt(squares.sum(axis=0)),
            component_norms=np.sqrt(squares),
            components=self.components,
            kept_of_mean=np.sqrt(kept[:, :, 0].sum(axis=0)),
            component_kept_of_mean=np.sqrt(kept[:, :, 0]),
            weights=self.resampling,
            resampled_kept_of_mean=np.sqrt(kept[:, :, 1:].sum(axis=0)).T,
            parameters=parameters,
            unsuited=unsuited,
        )


def with_mean(weights: np.ndarray, losses: Tensor) -> Tensor:
    """The weights of the mean over all losses, then those of R resamples: (1 + R, P, B)."""
    mean = torch.full_like(losses, 1 / losses.numel()).unsqueeze(0)
    return torch.cat([mean, torch.from_numpy(weights).to(losses)])


def _of_counted(weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Weights of resamples, (R, P, B), of what counts only, each with the sum 1."""
    weights = weights * shares
    return weights / weights.sum(axis=(1, 2), keepdims=True)
