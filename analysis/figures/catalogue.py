"""The figures of one dataset in their order, with titles and captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.convergence import clocks, convergence
from analysis.figures.lines import Lines, default_lines
from analysis.figures.maps import lag_maps, position_maps
from analysis.figures.parallel import parallel
from analysis.figures.predictions import intervals, symbols, values
from analysis.figures.profiles import component_profiles, lag_profiles
from analysis.figures.ratios import lag_ratios
from analysis.figures.relative_bias import relative_bias
from analysis.figures.runs import choose_runs
from analysis.figures.tuning import tuning
from analysis.loading import Results
from analysis.statistics import ID

PREDICTED_RUNS = 2  # whose predictions are drawn: the best of fixed and of adaptive policies, if there are both
Plan = tuple[str, str, str, Callable[[], Figure]]  # name, title, caption; draws the figure or raises NoDataError


def plans(results: Results, frame: pd.DataFrame, dataset: str) -> Iterator[Plan]:
    """The figures of one dataset; the rows of single runs are read only when their figures come.

    Arguments:
        results: where lag profiles and predictions are read from.
        frame: metrics and options of the dataset's runs, all with a validation metric.
        dataset: its name, the title of every figure.
    """
    lines = default_lines(frame)
    yield from _of_settings(frame, lines, dataset)
    names = choose_runs(frame, lines.metric)
    if names:
        yield from _of_runs(results, frame[frame[ID].isin(names)], names, dataset)


def _of_settings(frame: pd.DataFrame, lines: Lines, dataset: str) -> Iterator[Plan]:
    drawn, remark = frame[frame[ID].isin(lines.runs)], lines.remark()
    yield (
        "convergence",
        "Validation and truncation length",
        f"Validation, best validation so far, and truncation length K over training. {remark}",
        partial(convergence, drawn, dataset, lines),
    )
    yield (
        "clocks",
        "Best validation by four clocks",
        "Best validation so far against epochs, epochs with what probes read, updates, and seconds of training; "
        f"a small K makes more updates an epoch. {remark}",
        partial(clocks, drawn, dataset, lines),
    )
    yield (
        "relative_bias",
        "Relative bias of the gradient",
        "The bound on the relative bias at the K in use, and the bias as measured; dashed: delta of the adaptive "
        f"policies. Gaps: an infinite bound, or K at the probe window's end. {remark}",
        partial(relative_bias, drawn, dataset, lines),
    )
    cells = (
        "Best validation, mean over init, the best over all other options; the best cell is framed. Grey: every run "
        "diverged."
    )
    yield (
        "lr_by_K",
        "Learning rate by truncation length",
        f"Fixed policies. {cells}",
        partial(tuning, frame, dataset, "K", lines.metric),
    )
    yield (
        "lr_by_delta",
        "Learning rate by allowed bias",
        f"Adaptive policies. {cells}",
        partial(tuning, frame, dataset, "delta", lines.metric),
    )
    yield (
        "parallel",
        "All settings",
        "A line per setting through its options to its best validation, mean over init; dark is good. At each value "
        "lines lie in the order of their results, the best lowest.",
        partial(parallel, frame, dataset, lines.metric),
    )


def _of_runs(results: Results, frame: pd.DataFrame, names: dict[str, str], dataset: str) -> Iterator[Plan]:
    best = next(iter(names))
    chosen = "The best run of each policy" if len(names) > 1 else "The best run"
    chosen += ", at most four." if len(names) == 4 else "."
    gradients = results.gradients(names)
    yield (
        "lag_profiles",
        "Gradient norm by lag",
        "phi: norm of the gradient of the loss with respect to the state k steps before, at three moments of training. "
        f"Points: the K in use; dashed: the fitted decay. {chosen}",
        partial(lag_profiles, gradients, frame, dataset, names),
    )
    yield (
        "components",
        "Gradient norm by lag and component",
        f"As above for each part of the state. One run: {names[best]}.",
        partial(component_profiles, gradients[gradients[ID] == best], frame, dataset),
    )
    yield (
        "lag_maps",
        "Gradient norm by lag over training",
        f"Colour: phi, down to 1e-8 of the largest; white: the K in use. {chosen}",
        partial(lag_maps, gradients, frame, dataset, names),
    )
    positions = results.positions(names)
    yield (
        "position_maps",
        "Gradient norm by loss position and lag",
        "Colour: phi of each loss position (row of the probe window), mean over the evaluations after training began; "
        f"blank: before the window. {chosen}",
        partial(position_maps, positions, frame, dataset, names),
    )
    yield (
        "lag_ratios",
        "Decay from lag to lag",
        "Ratios of phi at lag k+1 to phi at lag k over loss positions, probes and evaluations after training began: "
        f"median, quartiles, 5 % to 95 %. Dashed: no decay. {chosen}",
        partial(lag_ratios, positions, frame, dataset, names),
    )
    few = dict(list(names.items())[:PREDICTED_RUNS])
    predictions = results.predictions(few)
    where = "at the beginning of the test split, by the parameters of the best validation"
    yield (
        "symbols",
        "Target and predicted symbols",
        f"Symbols {where}, of some streams; a mark below a strip: wrong.",
        partial(symbols, predictions, frame, dataset, few),
    )
    yield (
        "intervals",
        "True and predicted intervals",
        f"Intervals {where}: along the first stream (marks at the bottom: event missed), and predicted against true "
        "of all stored streams.",
        partial(intervals, predictions, frame, dataset, few),
    )
    yield (
        "values",
        "Target and predicted values",
        f"Values {where}, of the first stream.",
        partial(values, predictions, frame, dataset, few),
    )
