"""The figure of a diagnosis: phi by lag, and the relative bias by truncation length."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from atbptt.probes import RelativeBias
from atbptt.runs.schema import INTERVAL

from ..figures import COLORS, NOTE, REFERENCE, log_axis, panels, save, styled
from .measuring import Diagnosis

SHOWN = 1e-12  # of the largest phi: below, it has no effect
ENDS = 1e-4, 1e2  # of the bias that is shown
FARTHEST = 2.0  # times W: how far an extrapolated bound is shown
SPREAD = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
BAND = 0.2  # opacity
BELOW = 30.0  # how much less than the least mean phi is shown of single losses
MARGIN = 1.06  # of the axis of lags or lengths
ROOM = 1.6  # factor between the outermost value and the axis's end
BOUND, MEASURED, DECAY, _, PHI = COLORS[:5]
IN_USE = REFERENCE | {"ls": ":", "lw": 1.4}


def draw(diagnosis: Diagnosis, deltas: Sequence[float], path: Path) -> Path:
    """Draw a diagnosis into a PNG or PDF file.

    Raises:
        StorageError: the file cannot be written.
    """
    trained, estimate = diagnosis.trained, diagnosis.measurement.estimate
    title = (
        f"{trained.settings.component('dataset').name}, {trained.settings.component('model').name}: "
        f"run {trained.experiment_id} at epoch {trained.epoch:.3g}"
    )
    biases: dict[str, RelativeBias] = {"bound": estimate.bound}
    if estimate.measured is not None:
        biases["measured"] = estimate.measured
    fitted = diagnosis.settings.tau + 1, estimate.bound.log_beta
    return save(reach(title, diagnosis.phi, diagnosis.norms, fitted, trained.K, biases, deltas), path)


@styled
def reach(
    title: str,
    phi: np.ndarray,
    norms: np.ndarray,
    fitted: tuple[int, float],
    K: int,
    biases: Mapping[str, RelativeBias],
    deltas: Sequence[float],
) -> Figure:
    """Left phi by lag, right the relative bias by K; a vertical line is the K in use.

    Arguments:
        title: of the figure.
        phi: mean gradient norm at lags 1..W, (W,).
        norms: of the single losses that count, (P B, W) at most; 90 % of them lie in the shaded band.
        fitted: the first lag of the fitted decay and log beta, its slope; not drawn unless that is finite.
        K: the truncation length in use.
        biases: by the name in the legend, at most 2.
        deltas: relative biases, drawn as horizontal lines with K(delta) on them.
    """
    figure, (left, right) = panels(title, 2, 3.0)
    _draw_phi(left, phi, norms, fitted, K)
    _draw_biases(right, biases, deltas, K, len(phi))
    for axes, label in ((left, None), (right, f"K in use, {K}")):
        if axes.get_xlim()[1] >= K:
            axes.axvline(K, **IN_USE, label=label)
        axes.legend(fontsize="small", handlelength=1.6, frameon=True, edgecolor="none")
    return figure


def _draw_phi(axes: Axes, phi: np.ndarray, norms: np.ndarray, fitted: tuple[int, float], in_use: int) -> None:
    low, high = np.nanquantile(norms, SPREAD, axis=0)
    lags = np.arange(1, len(phi) + 1)
    seen = phi > SHOWN * phi.max()
    lowest = max(low[seen].min(), phi[seen].min() / BELOW)
    log_axis(axes.yaxis, lowest, max(high.max(), phi.max()))
    axes.fill_between(lags[seen], np.maximum(low[seen], lowest), high[seen], color=PHI, alpha=BAND, lw=0)
    marker = "." if seen.sum() == 1 else None
    axes.plot(lags[seen], phi[seen], color=PHI, lw=1.8, marker=marker, label="phi; shaded: 90 % of losses")
    first, log_beta = fitted
    if np.isfinite(log_beta) and first <= len(phi):
        tail = lags[first - 1 :]
        values = phi[first - 1] * np.exp(log_beta * (tail - first))
        drawn = values > lowest
        if drawn.any():
            style = {"color": DECAY, "ls": (0, (3, 2)), "lw": 2.2, "zorder": 3}
            axes.plot(tail[drawn], values[drawn], label="fitted decay beyond tau", **style)
    axes.set_title("how far back the gradient reaches")
    axes.set_xlabel("lag k (steps)")
    axes.set_ylabel("gradient norm phi")
    axes.set_xlim(0, _end(int(lags[seen][-1]), in_use, len(phi)))


def _draw_biases(
    axes: Axes, biases: Mapping[str, RelativeBias], deltas: Sequence[float], in_use: int, window: int
) -> None:
    farthest = int(FARTHEST * window)
    shown = [_shown(bias.values[:farthest]) for bias in biases.values()]
    lengths = [[bias.truncation(delta) for delta in deltas] for bias in biases.values()]
    values = np.concatenate([*shown, np.array(deltas)])
    lowest, highest = max(np.nanmin(values), min(deltas) / 10), np.nanmax(values)
    last = max([4, *(length for each in lengths for length in each if length is not None and length <= farthest)])
    last = max([last, *(above[-1] + 1 for each in shown if len(above := np.flatnonzero(each[:window] >= lowest)))])
    for (name, bias), each, of_deltas, color in zip(biases.items(), shown, lengths, (BOUND, MEASURED), strict=False):
        axes.plot(np.arange(1, len(each) + 1), each, color=color, lw=1.8, label=name)
        if len(bias.resampled):
            ends = np.quantile(bias.resampled, SPREAD, axis=0, method="inverted_cdf")
            low, high = np.clip(np.nan_to_num(ends, nan=np.inf), *ENDS)
            axes.fill_between(np.arange(1, len(low) + 1), low, high, color=color, alpha=BAND, lw=0)
        for length, delta in zip(of_deltas, deltas, strict=True):
            if length is not None and length <= last:
                axes.plot(length, delta, "o", color=color, mec="white", ms=6, zorder=4)
                axes.annotate(f"{length}", (length, delta), (4, 3), textcoords="offset points", **NOTE, zorder=5)
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
    """The end of an axis that shows the data, and the K in use if that is within the window."""
    return MARGIN * max(last, in_use if in_use <= window else 0)


def _shown(values: np.ndarray) -> np.ndarray:
    """The values within the axis, NaN for others, such as a measured bias of 0 at K = W."""
    return np.where((values >= ENDS[0]) & (values <= ENDS[1]), values, np.nan)
