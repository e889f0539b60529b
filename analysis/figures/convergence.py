"""Validation, the best so far, and the truncation length K over training; the same best against four clocks."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.divergence import end_axis, highest, trained
from analysis.figures.lines import Lines, choose_lines, draw_lines
from analysis.figures.style import axis_name, few_ticks, legend_below, new_figure, panels, styled, whole_numbers
from analysis.statistics import ID, cumulative_best, validation_metrics

CLOCKS = {
    "epoch": "epoch",
    "adaptive_epoch": "epoch, probes counted",
    "updates": "updates",
    "train_seconds": "training time (s)",
}


@styled
def convergence(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """Validation, best validation so far, and mean K since the evaluation before, against the epoch, for one dataset.

    Thick lines are means over `init` of a setting, bands one standard deviation (no further than any run), thin
    lines the runs. Validation before the first training step is left out: it would squash all that training does.

    Arguments:
        frame: as from `load`.
        title: written above.
        lines: which settings, and how; chosen from the frame by default.

    Raises:
        AnalysisError: no validation metric is logged yet.
    """
    lines = lines or default_lines(frame)
    figure = new_figure(title, 3.0, 9.0)
    left, middle, right = figure.subplots(1, 3)
    everything = lines.rows(frame, lines.metric)
    top, values = highest(everything, perplexity=lines.metric == "valid_ppl"), trained(everything)
    draw_lines(left, values, lines.metric, lines, top=top)
    end_axis(left, values, top)
    left.set_ylabel(axis_name(lines.metric))

    best = cumulative_best(values, lines.metric)
    draw_lines(middle, best, lines.metric, lines, top=top)
    end_axis(middle, best, top)
    middle.set_ylabel(f"best {axis_name(lines.metric)}")

    lengths = _lengths(frame, lines)
    draw_lines(right, lengths, "K", lines)
    whole_numbers(right.yaxis, lengths["value"])
    right.set_ylabel("truncation K (steps)")
    for axes in (left, middle, right):
        few_ticks(axes.xaxis)
        axes.set_xlabel("epoch")
    legend_below(figure, thick_lines(left, lines))
    return figure


def _lengths(frame: pd.DataFrame, lines: Lines) -> pd.DataFrame:
    """K between evaluations: its mean, which tells of a policy that draws K anew for every window what one K does not.

    Runs of versions that log no mean have the K of the last window.
    """
    means, lasts = lines.rows(frame, "mean_K"), lines.rows(frame, "K")
    return pd.concat([means.assign(metric="K"), lasts[~lasts[ID].isin(means[ID])]])


@styled
def clocks(frame: pd.DataFrame, title: str, lines: Lines | None = None) -> Figure:
    """Best validation so far against epochs, epochs with the probes' steps, updates, and training seconds.

    Arguments and errors as in `convergence`.
    """
    lines = lines or default_lines(frame)
    everything = lines.rows(frame, lines.metric)
    top, values = highest(everything, perplexity=lines.metric == "valid_ppl"), trained(everything)
    best = cumulative_best(values, lines.metric)
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


def default_lines(frame: pd.DataFrame) -> Lines:
    """The lines of a frame's own best settings, by the validation metric of most runs (a dataset has one loss)."""
    return choose_lines(frame, validation_metrics(frame).mode()[0])


def thick_lines(axes: Axes, lines: Lines) -> list[Line2D]:
    """The lines of the settings, without the runs' thin ones, for a legend."""
    names = {line.label for line in lines.chosen}
    return [line for line in axes.get_lines() if line.get_label() in names]
