"""The figure of a diagnosis: phi by lag, and what truncation loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures import COLORS, NOTE, REFERENCE, log_axis, panels, styled

SHOWN = 1e-12  # of the largest phi: below, nothing is of consequence
ENDS = 1e-4, 1e2  # of the bias that is shown
FARTHEST = 2.0  # times W: how far a bound that is extrapolated is followed
BAND = 0.2  # opacity
BELOW = 30.0  # how much less than the least mean phi is shown of single losses
MARGIN = 1.06  # of the axis of lags or lengths
ROOM = 1.6  # factor between the outermost value and the axis's end
BOUND, MEASURED, DECAY, _, PHI = COLORS[:5]
IN_USE = REFERENCE | {"ls": ":", "lw": 1.4}


@dataclass(frozen=True)
class BiasCurve:
    """The relative bias by truncation length.

    Attributes:
        name: what the legend calls it.
        values: at K = 1, 2, ...
        low, high: ends of an interval at K = 1, 2, ..., perhaps fewer; None where there is none.
        lengths: K(delta) for each delta of the figure; infinite where there is none.
    """

    name: str
    values: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    lengths: Sequence[float]


@styled
def reach(
    title: str,
    phi: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    decay: tuple[int, float],
    K: int,
    curves: Sequence[BiasCurve],
    deltas: Sequence[float],
) -> Figure:
    """Left phi by lag, right the relative bias by K; a vertical line is the K in use.

    Arguments:
        title: written above.
        phi: mean gradient norm at lags 1..W, (W,).
        low, high: between what it lies for most streams and loss positions, (W,).
        decay: the first lag of the tail and log beta, its slope; what is no finite slope is not drawn.
        K: the truncation length in use.
        curves: at most 2.
        deltas: the relative biases that are asked for: horizontal lines, with K(delta) on them.
    """
    figure, (left, right) = panels(title, 2, 3.0)
    _draw_phi(left, phi, low, high, decay, K)
    _draw_biases(right, curves, deltas, K, len(phi))
    for axes, label in ((left, None), (right, f"K in use, {K}")):
        if axes.get_xlim()[1] >= K:
            axes.axvline(K, **IN_USE, label=label)
        axes.legend(fontsize="small", handlelength=1.6, frameon=True, edgecolor="none")
    return figure


def _draw_phi(
    axes: Axes, phi: np.ndarray, low: np.ndarray, high: np.ndarray, decay: tuple[int, float], in_use: int
) -> None:
    lags = np.arange(1, len(phi) + 1)
    seen = phi > SHOWN * phi.max()
    lowest = max(low[seen].min(), phi[seen].min() / BELOW)
    log_axis(axes.yaxis, lowest, max(high.max(), phi.max()))
    axes.fill_between(lags[seen], np.maximum(low[seen], lowest), high[seen], color=PHI, alpha=BAND, lw=0)
    marker = "." if seen.sum() == 1 else None
    axes.plot(lags[seen], phi[seen], color=PHI, lw=1.8, marker=marker, label="phi; shaded: 90 % of losses")
    first, log_beta = decay
    tail = lags[first - 1 :]
    if np.isfinite(log_beta) and len(tail):
        fitted = phi[first - 1] * np.exp(log_beta * (tail - first))
        drawn = fitted > lowest
        if drawn.any():
            axes.plot(
                tail[drawn],
                fitted[drawn],
                color=DECAY,
                ls=(0, (3, 2)),
                lw=2.2,
                zorder=3,
                label="fitted decay beyond tau",
            )
    axes.set_title("how far back the gradient reaches")
    axes.set_xlabel("lag k (steps)")
    axes.set_ylabel("gradient norm phi")
    axes.set_xlim(0, _end(int(lags[seen][-1]), in_use, len(phi)))


def _draw_biases(axes: Axes, curves: Sequence[BiasCurve], deltas: Sequence[float], in_use: int, window: int) -> None:
    farthest = int(FARTHEST * window)
    shown = [_shown(curve.values[:farthest]) for curve in curves]
    values = np.concatenate([*shown, np.array(deltas)])
    lowest, highest = max(np.nanmin(values), min(deltas) / 10), np.nanmax(values)
    last = max([4, *(int(length) for curve in curves for length in curve.lengths if length <= farthest)])
    last = max([last, *(above[-1] + 1 for each in shown if len(above := np.flatnonzero(each[:window] >= lowest)))])
    for curve, each, color in zip(curves, shown, (BOUND, MEASURED), strict=False):
        axes.plot(np.arange(1, len(each) + 1), each, color=color, lw=1.8, label=curve.name)
        if curve.low is not None and curve.high is not None:
            low, high = (np.clip(np.nan_to_num(side, nan=np.inf), *ENDS) for side in (curve.low, curve.high))
            axes.fill_between(np.arange(1, len(low) + 1), low, high, color=color, alpha=BAND, lw=0)
        for length, delta in zip(curve.lengths, deltas, strict=True):
            if length <= last:
                axes.plot(length, delta, "o", color=color, mec="white", ms=6, zorder=4)
                axes.annotate(f"{length:.0f}", (length, delta), (4, 3), textcoords="offset points", **NOTE, zorder=5)
    log_axis(axes.yaxis, lowest, highest)
    axes.set_ylim(lowest / ROOM, highest * ROOM)
    axes.set_xlim(0, _end(last, in_use, window))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for delta in deltas:
        axes.axhline(delta, **REFERENCE)
        axes.annotate(f"{delta:g}", (1.01, delta), xycoords=("axes fraction", "data"), va="center", **NOTE)
    axes.set_title("what truncation at K loses")
    axes.set_xlabel("truncation length K (steps)")
    axes.set_ylabel("relative bias")


def _end(last: int, in_use: int, window: int) -> float:
    """Of an axis that shows what there is, and the K in use if the window holds it."""
    return MARGIN * max(last, in_use if in_use <= window else 0)


def _shown(values: np.ndarray) -> np.ndarray:
    """The values that the axis can show; a gap for others, as the measured bias at K = W, which is 0 by definition."""
    return np.where((values >= ENDS[0]) & (values <= ENDS[1]), values, np.nan)
