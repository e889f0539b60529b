"""Curves over training: validation, the best so far by several clocks, K, and the relative bias."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..statistics import ID, clocks_of, cumulative_best
from . import style
from .divergence import end_axis, highest, trained
from .lines import Lines, default_lines, draw_lines, thick_lines

CLOCKS = {
    "epoch": "epoch",
    "adaptive_epoch": "epoch, probes counted",
    "updates": "updates",
    "compute_seconds": "processor time (s)",
    "train_seconds": "training time (s)",
}
ENDS = 1e-4, 1e3  # of the axis: diverged runs can have a bias far beyond
LABEL_HEIGHT = 0.08  # of the axis
PANELS = {"log_relative_bias": "bound", "log_relative_bias_measured": "measured"}


@style.styled
def convergence(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """Validation, best validation so far, and mean K since the evaluation before, against the epoch, for one dataset.

    Thick lines are means over `init` of a setting, bands one standard deviation (no further than any run), thin lines
    the runs. Validation before training is left out, since it would compress the rest of the axis.

    Arguments:
        frame: as from `load`.
        title: written above.
        lines: the settings and their looks; by default `default_lines`.

    Raises:
        AnalysisError: no validation metric is logged yet.
    """
    lines = lines or default_lines(frame)
    values, best, top = _values(frame, lines)
    figure = style.new_figure(title, 3.0, 9.0)
    left, middle, right = figure.subplots(1, 3)
    for axes, rows, before in ((left, values, ""), (middle, best, "best ")):
        draw_lines(axes, rows, lines.metric, lines, top=top)
        end_axis(axes, rows, top)
        axes.set_ylabel(style.axis_name(lines.metric, before))
    # The mean between evaluations, or the K of the last window for runs of versions that log no mean.
    means, lasts = lines.rows(frame, "mean_K"), lines.rows(frame, "K")
    lengths = pd.concat([means.assign(metric="K"), lasts[~lasts[ID].isin(means[ID])]])
    draw_lines(right, lengths, "K", lines)
    style.whole_numbers(right.yaxis, lengths["value"])
    right.set_ylabel("truncation K (steps)")
    for axes in (left, middle, right):
        style.few_ticks(axes.xaxis)
        axes.set_xlabel("epoch")
    style.legend_below(figure, thick_lines(left, lines))
    return figure


@style.styled
def clocks(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """Best validation so far against the clocks of `clocks_of`: epochs, with the probes' steps, updates, seconds.

    Arguments and errors as in `convergence`.
    """
    lines = lines or default_lines(frame)
    _, best, top = _values(frame, lines)
    y = style.axis_name(lines.metric, "best ", 20)  # the panels are low
    axes_of = clocks_of(best)
    figure, each = style.panels(title, len(axes_of), 2.3, y=y, sharey=True)
    for axes, clock in zip(each, axes_of, strict=True):
        draw_lines(axes, best, lines.metric, lines, clock, "hold", top)
        style.few_ticks(axes.xaxis)
        axes.set_xlabel(CLOCKS[clock])
    end_axis(each[0], best, top)
    style.legend_below(figure, thick_lines(each[0], lines))
    return figure


def _values(frame: pd.DataFrame, lines: Lines) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """Validation after training began, the best so far, and the highest value that has not diverged."""
    everything = lines.rows(frame, lines.metric)
    values = trained(everything)
    top = highest(everything, perplexity=lines.metric == "valid_ppl")
    return values, cumulative_best(values, lines.metric), top


@style.styled
def relative_bias(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """The bound on the relative bias of K steps at the K in use, and the scheme's bias as measured, against the epoch.

    Dashed lines are the delta of adaptive policies. An infinite bound, or a measured bias of zero (mostly at K =
    W), is a gap. Arguments as in `convergence`.

    Raises:
        NoDataError: no run has measured a finite bias.
    """
    lines = (lines or default_lines(frame)).having(frame, PANELS)
    biases = {metric: _mean_over_probes(lines.rows(frame, metric)) for metric in PANELS}
    values = np.concatenate([rows["value"] for rows in biases.values()])
    values = np.exp(values[np.isfinite(values)])
    if not len(values):
        raise style.NoDataError("no finite log_relative_bias is logged")
    figure, each = style.panels(title, len(PANELS), 2.8, x="epoch", y="relative bias at K", sharey=True)
    deltas = sorted({line.delta for line in lines.chosen if line.delta is not None})
    for axes, (metric, name) in zip(each, PANELS.items(), strict=True):
        draw_lines(axes, biases[metric], metric, lines, log=True)
        infinite = int((~(biases[metric]["value"] < np.inf)).sum())  # NaN too
        axes.set_title(name + (f": infinite in {infinite} of {len(biases[metric])} evaluations" if infinite else ""))
        for delta in deltas:
            axes.axhline(delta, **style.REFERENCE)
        low, high = (np.clip(side([*values, *deltas]), *ENDS) for side in (min, max))
        style.log_axis(axes.yaxis, low, high)
        axes.set_ylim(low / 1.5, high * 1.5)
    height = -np.inf
    for delta in deltas:  # beside its line, but above the label before
        height = max(np.log(delta * 1.5 / low) / np.log(high * 1.5**2 / low), height + LABEL_HEIGHT)
        each[-1].text(1.01, height, f"delta {delta:g}", transform=each[-1].transAxes, va="center", **style.NOTE)
    style.legend_below(figure, thick_lines(each[0], lines))
    return figure


def _mean_over_probes(rows: pd.DataFrame) -> pd.DataFrame:
    mean = rows.groupby([ID, "step"], observed=True)["value"].transform("mean")
    return rows.assign(value=mean, replicate=0).drop_duplicates([ID, "step"])
