"""Figures of single runs: which runs, what they are called, a panel for each."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atbptt.errors import AnalysisError

from ..statistics import (
    BETTER_FIRST,
    ID,
    best_validation,
    described,
    endings,
    format_value,
    labels,
    options_of,
    validation_metrics,
)
from .style import NoDataError, more_lines, panels, plain

MOST_RUNS = 4
Names = Mapping[str, str]  # experiment_id -> title of the run's panel


def choose_runs(frame: pd.DataFrame, metric: str | None = None, most: int = MOST_RUNS) -> dict[str, str]:
    """The best run of each kind of policy (fixed, adaptive), then of each policy (fixed K=5), at most `most`.

    Complete runs come first, then unfinished ones, then diverged ones.

    Arguments:
        frame: as from `load`, of one dataset.
        metric: the validation metric by which runs are compared; by default that of most runs.

    Returns:
        `experiment_id` -> the run's setting, with `init` where it varies: `fixed K=5, lr=1, init=0`.
    """
    metric = metric or validation_metrics(frame).mode()[0]
    best = best_validation(frame[frame["metric"] == metric], metric).merge(described(frame)[[ID, "policy"]], on=ID)
    places = endings(frame, metric).set_index(ID)["ending"].map(BETTER_FIRST.index)
    best = best.assign(place=best[ID].map(places)).sort_values(["place", "valid"], kind="stable")
    best = best.drop_duplicates("policy")
    again = best["policy"].astype(str).str.split(" ", n=1).str[0].duplicated()
    chosen = best.assign(again=again).sort_values("again", kind="stable").head(most)
    names = run_names(frame)
    return {run: names[run] for run in chosen[ID]}


def run_names(frame: pd.DataFrame) -> dict[str, str]:
    """`experiment_id` -> the run's setting, with `init` where it varies: `fixed K=5, lr=1, init=0`."""
    options = options_of(frame)
    names = labels(options).astype(str)
    if "init" in options and len(options["init"].unique()) > 1:
        names = names + ", init=" + options["init"].map(format_value)
    return dict(zip(options[ID], names, strict=True))


def named(
    table: pd.DataFrame, frame: pd.DataFrame, names: Names | None, letters: tuple[int, int] = (70, 32)
) -> dict[str, str]:
    """The runs of a table with the titles of their panels, in the order of `names` (by default `run_names`).

    `letters` fit in a line of the title of a single panel, and of one of several. Raises NoDataError if the table is
    empty, AnalysisError if it has more runs than panels.
    """
    found = list(table[ID].unique())
    if not found:
        raise NoDataError("no run has stored these rows")
    if len(found) > MOST_RUNS:
        raise AnalysisError(f"runs (={len(found)}) must be at most {MOST_RUNS}: a panel is drawn for each")
    names = run_names(frame) if names is None else names
    order = [run for run in names if run in found]
    room = letters[len(order) > 1]
    return {run: plain(names[run], room) for run in order}


def run_panels(
    table: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None, height: float, **options: Any
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each run, by `experiment_id`; errors as in `named`."""
    runs = named(table, frame, names)
    figure, each = panels(title, len(runs), height + more_lines(runs.values()), **options)
    for axes, name in zip(each, runs.values(), strict=True):
        axes.set_title(name)
    return figure, dict(zip(runs, each, strict=True))


def option(frame: pd.DataFrame, run: str, name: str) -> float | None:
    """A number among a run's options; None if it is null or absent."""
    if name not in frame:
        return None
    value = frame.loc[frame[ID] == run, name].iloc[0]
    return None if pd.isna(value) else float(value)


def by_step(frame: pd.DataFrame, run: str, metric: str) -> pd.Series:
    """A metric of a run by training step, mean over probes."""
    rows = frame[(frame["metric"] == metric) & (frame[ID] == run)]
    return rows.groupby("step")["value"].mean()
