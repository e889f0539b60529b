"""Validation, the best so far, and the truncation length K over training; the same best against four clocks."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.divergence import end_axis, highest, trained
from analysis.figures.lines import Lines, default_lines, draw_lines, thick_lines
from analysis.figures.style import axis_name, few_ticks, legend_below, new_figure, panels, styled, whole_numbers
from analysis.statistics import ID, cumulative_best

CLOCKS = {
    "epoch": "epoch",
    "adaptive_epoch": "epoch, probes counted",
    "updates": "updates",
    "train_seconds": "training time (s)",
}


@styled
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
    figure = new_figure(title, 3.0, 9.0)
    left, middle, right = figure.subplots(1, 3)
    for axes, rows, name in ((left, values, "{}"), (middle, best, "best {}")):
        draw_lines(axes, rows, lines.metric, lines, top=top)
        end_axis(axes, rows, top)
        axes.set_ylabel(name.format(axis_name(lines.metric)))
    lengths = _lengths(frame, lines)
    draw_lines(right, lengths, "K", lines)
    whole_numbers(right.yaxis, lengths["value"])
    right.set_ylabel("truncation K (steps)")
    for axes in (left, middle, right):
        few_ticks(axes.xaxis)
        axes.set_xlabel("epoch")
    legend_below(figure, thick_lines(left, lines))
    return figure


@styled
def clocks(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """Best validation so far against epochs, epochs with the probes' steps, updates, and training seconds.

    Arguments and errors as in `convergence`.
    """
    lines = lines or default_lines(frame)
    _, best, top = _values(frame, lines)
    figure, each = panels(title, len(CLOCKS), 2.3, sharey=True)
    for axes, (clock, name) in zip(each, CLOCKS.items(), strict=True):
        draw_lines(axes, best, lines.metric, lines, clock, "hold", top)
        few_ticks(axes.xaxis)
        axes.set_xlabel(name)
    end_axis(each[0], best, top, each[1:])
    for axes in each[::2]:
        axes.set_ylabel(textwrap.fill(f"best {axis_name(lines.metric)}", 20))  # the panels are low
    legend_below(figure, thick_lines(each[0], lines))
    return figure


def _values(frame: pd.DataFrame, lines: Lines) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """Validation after training began, the best so far, and the highest value that has not diverged."""
    everything = lines.rows(frame, lines.metric)
    values = trained(everything)
    top = highest(everything, perplexity=lines.metric == "valid_ppl")
    return values, cumulative_best(values, lines.metric), top


def _lengths(frame: pd.DataFrame, lines: Lines) -> pd.DataFrame:
    """The mean K between evaluations, or the K of the last window for runs of versions that log no mean."""
    means, lasts = lines.rows(frame, "mean_K"), lines.rows(frame, "K")
    return pd.concat([means.assign(metric="K"), lasts[~lasts[ID].isin(means[ID])]])
