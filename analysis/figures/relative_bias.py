"""The relative bias over training: its bound, and as measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.lines import Lines, default_lines, draw_lines, thick_lines
from analysis.figures.style import NOTE, REFERENCE, NoDataError, legend_below, log_axis, panels, styled
from analysis.statistics import ID

ENDS = 1e-4, 1e3  # of the axis: diverged runs can have a bias far beyond
LABEL_HEIGHT = 0.08  # of the axis
PANELS = {"log_relative_bias": "bound", "log_relative_bias_measured": "measured"}


@styled
def relative_bias(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """The bound on the relative bias at the K in use, and the bias as measured, against the epoch.

    Dashed lines are the delta of adaptive policies. An infinite bound, or a measured bias of zero (at K = W, by
    definition), is a gap.

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
    figure, each = panels(title, len(PANELS), 2.8, x="epoch", y="relative bias at K", sharey=True)
    deltas = sorted({line.delta for line in lines.chosen if line.delta is not None})
    for axes, (metric, name) in zip(each, PANELS.items(), strict=True):
        draw_lines(axes, biases[metric], metric, lines, log=True)
        infinite = int((~(biases[metric]["value"] < np.inf)).sum())  # NaN too
        axes.set_title(name + (f": infinite in {infinite} of {len(biases[metric])} evaluations" if infinite else ""))
        for delta in deltas:
            axes.axhline(delta, **REFERENCE)
        low, high = (np.clip(side([*values, *deltas]), *ENDS) for side in (min, max))
        log_axis(axes.yaxis, low, high)
        axes.set_ylim(low / 1.5, high * 1.5)
    height = -np.inf
    for delta in deltas:  # beside its line, but above the label before
        height = max(np.log(delta * 1.5 / low) / np.log(high * 1.5**2 / low), height + LABEL_HEIGHT)
        each[-1].text(1.01, height, f"delta {delta:g}", transform=each[-1].transAxes, va="center", **NOTE)
    legend_below(figure, thick_lines(each[0], lines))
    return figure


def _mean_over_probes(rows: pd.DataFrame) -> pd.DataFrame:
    """One value for each run and evaluation."""
    mean = rows.groupby([ID, "step"], observed=True)["value"].transform("mean")
    return rows.assign(value=mean, replicate=0).drop_duplicates([ID, "step"])
