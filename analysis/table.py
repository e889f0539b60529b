"""The table of results: per policy setting, validation and test at the best validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.errors import AnalysisError
from analysis.statistics import ID, best_validation, format_value, options_of, settings, summarize
from atbptt.schema import FAILED, FINISHED

SHOWN_IDS = 6  # in the lines below the table; the rest is counted
HEADINGS = {"name": "experiment"}  # the option `name` says nothing in a table


def print_table(frame: pd.DataFrame, status: pd.DataFrame, metric: str | None = None) -> None:
    """Print a table for each dataset, and below what is missing from it and where the files are.

    Arguments:
        frame: as from `load`.
        status: as from `load_status`.
        metric: as in `best_validation`.

    Raises:
        AnalysisError: `metric` is not logged, or no run has a finite value of it.
    """
    # Tables take the width they need: fitted to a pipe's 80 columns or a narrow terminal, cells would vanish.
    console = Console(highlight=False, width=10_000)
    best = best_validation(frame, metric)
    if best.empty:
        raise AnalysisError(f"no finite {metric or 'validation loss'} in any of {frame[ID].nunique()} runs")
    if "dataset" not in frame:
        frame = frame.assign(dataset="unknown")
    # Runs without a finite value would make columns vary that no row of the table shows.
    shown = frame[frame[ID].isin(best[ID])]
    for dataset, runs_of_dataset in shown.groupby("dataset", dropna=False):
        summary = summarize(runs_of_dataset, metric)
        options = options_of(runs_of_dataset)
        columns = ["policy", *settings(options)]
        for name, rows in summary.groupby("metric"):
            # Not the table's own title, which is wrapped to the table's width.
            console.print(Text(_title(options, str(dataset))), soft_wrap=True)
            console.print(_table(rows, columns, str(name)))
    for line in remarks(frame, status, best):
        console.print(Text(line))
    for pattern in file_patterns(status):
        console.print(Text(f"Parquet: {pattern}"), soft_wrap=True)


def _title(options: pd.DataFrame, dataset: str) -> str:
    names = list(options["name"].dropna().unique()) if "name" in options else []
    experiment = f"{names[0]}, " if len(names) == 1 and names[0] != dataset else ""
    return f"{experiment}dataset {dataset}: best validation, mean (sd) over init"


def _table(rows: pd.DataFrame, columns: Sequence[str], metric: str) -> Table:
    measure = metric.removeprefix("valid_")
    measure = measure.upper() if measure in ("ppl", "nll") else measure.replace("_", " ")
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        numeric = column != "policy" and pd.api.types.is_numeric_dtype(rows[column])
        table.add_column(HEADINGS.get(column, column), justify="right" if numeric else "left")
    for heading in ("runs", f"valid {measure}", f"test {measure}", "K", "epoch"):
        table.add_column(heading, justify="right")
    for _, row in rows.iterrows():
        cells = [format_value(row[column]) for column in columns]
        cells += [
            str(row["runs"]),
            mean_sd(row["valid_mean"], row["valid_sd"]),
            mean_sd(row["test_mean"], row["test_sd"]),
            _short(row["K_mean"]),
            _short(row["epoch_mean"]),
        ]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def mean_sd(mean: float, sd: float) -> str:
    """`1.036 (0.004)`: four significant digits of the mean, the sd to the same place; blank for NaN."""
    if math.isnan(mean):
        return ""
    size = math.floor(math.log10(abs(mean))) if mean else 0
    style = f".{max(3 - size, 0)}f" if -4 <= size <= 5 else ".3e"
    return f"{mean:{style}}" + ("" if math.isnan(sd) else f" ({sd:{style}})")


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def remarks(frame: pd.DataFrame, status: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    """What a reader of the table must know: runs that failed, are not finished, or are left out.

    `frame`, `status` as in `print_table`; `best` as from `best_validation`.
    """
    failed = status[ID][status["state"] == FAILED]
    unfinished = status[ID][~status["state"].isin([FAILED, FINISHED])]
    evaluated = set(frame[ID])
    silent = status[ID][~status[ID].isin(evaluated)]
    diverged = status[ID][status[ID].isin(evaluated - set(best[ID]))]
    cases = {
        "failed; evaluations before that count above": failed,
        "not finished (running or killed); evaluations so far count above": unfinished,
        "left out, no evaluation": silent,
        "left out, no finite value of the metric": diverged,
    }
    return [f"{len(ids)} of {len(status)} runs {what}: {_listed(list(ids))}" for what, ids in cases.items() if len(ids)]


def _listed(ids: list[str]) -> str:
    more = len(ids) - SHOWN_IDS
    return " ".join(ids[:SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")


def file_patterns(status: pd.DataFrame) -> list[str]:
    """Where the runs' files are: a pattern for each folder that holds runs."""
    folders = sorted({str(Path(directory).parent) for directory in status["directory"]})
    return [f"{folder}/<experiment_id>/{{options,metrics,gradients}}.parquet" for folder in folders]
