"""The relative bias over training: the bound on it, and as measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.convergence import default_lines, thick_lines
from analysis.figures.empty import NoDataError
from analysis.figures.lines import Lines, draw_lines
from analysis.figures.style import NOTE, REFERENCE, legend_below, log_axis, panels, styled
from analysis.statistics import ID

ENDS = 1e-4, 1e3  # of the axis: what is beyond, as the bias of diverged runs, is of no consequence
LABEL_HEIGHT = 0.08  # of the axis
PANELS = {"log_relative_bias": "bound", "log_relative_bias_measured": "measured"}


@styled
def relative_bias(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """The bound on the relative bias at the K in use, and the bias as measured, against the epoch.

    A dashed line is the bias that an adaptive policy allows (delta). An infinite bound, or a measured bias of zero (at
    K = W, by definition), is a gap.

    Arguments:
        frame: as from `load`, of one dataset.
        title: written above.
        lines: as in `convergence`.

    Raises:
        NoDataError: no run has measured a finite bias.
    """
    lines = lines or default_lines(frame)
    biases = {metric: _mean_over_probes(lines.rows(frame, metric)) for metric in PANELS}
    values = np.concatenate([rows["value"] for rows in biases.values()])
    values = np.exp(values[np.isfinite(values)])
    if not len(values):
        raise NoDataError("no finite log_relative_bias is logged")
    figure, each = panels(title, len(PANELS), 2.8, sharey=True)
    deltas = sorted({line.delta for line in lines.chosen if line.delta is not None})
    for axes, (metric, name) in zip(each, PANELS.items(), strict=True):
        draw_lines(axes, biases[metric], metric, lines, log=True)
        axes.set_title(name + _infinite(biases[metric]["value"]))
        axes.set_xlabel("epoch")
        for delta in deltas:
            axes.axhline(delta, **REFERENCE)
        low, high = (np.clip(side([*values, *deltas]), *ENDS) for side in (min, max))
        log_axis(axes.yaxis, low, high)
        axes.set_ylim(low / 1.5, high * 1.5)
    height = -np.inf
    for delta in deltas:  # beside its line, but above the label before
        height = max(np.log(delta * 1.5 / low) / np.log(high * 1.5**2 / low), height + LABEL_HEIGHT)
        each[-1].text(1.01, height, f"delta {delta:g}", transform=each[-1].transAxes, va="center", **NOTE)
    each[0].set_ylabel("relative bias at K")
    legend_below(figure, thick_lines(each[0], lines))
    return figure


def _infinite(values: pd.Series) -> str:
    count = int((~(values < np.inf)).sum())  # not a number is no finite bias either
    return f": infinite in {count} of {len(values)} evaluations" if count else ""


def _mean_over_probes(rows: pd.DataFrame) -> pd.DataFrame:
    """One value for each run and evaluation."""
    if not (rows["replicate"] > 0).any():
        return rows
    mean = rows.groupby([ID, "step"], observed=True)["value"].mean()
    first = rows.drop_duplicates([ID, "step"])
    return first.assign(value=mean.loc[pd.MultiIndex.from_frame(first[[ID, "step"]])].to_numpy(), replicate=0)
