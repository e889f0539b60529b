"""The table of results: per setting, validation and test at the best validation."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from analysis.loading import Results
from analysis.statistics import COMPANIONS, ID, Group, best_validation, comparable, options_of, settings, summarize
from analysis.tables import cells, formats
from analysis.tables.cells import Column, Table
from analysis.tables.comparisons import equal_work_table, paired_table, target_table
from analysis.tables.published import EXPERIMENTS, beside
from atbptt.errors import unknown
from atbptt.runs.schema import FAILED, FINISHED

SHOWN_ROWS = 10  # of the comparisons below the main table in a terminal
SHOWN_IDS = 6  # in a remark; the rest is counted


def print_table(results: Results, metric: str | None = None, format: str = "terminal") -> None:  # noqa: A002
    """Print for each dataset the table of results, and the comparisons of policies that have inits in common.

    Remarks on missing results and the places of the files follow: in a terminal below the tables, else on stderr, so
    that the output is a file to use. CSV has no comparisons, since a file has one header.

    Raises:
        AnalysisError: `format` is none of `FORMATS`; `metric` is not logged, or no run has a finite value of it.
    """
    if format not in formats.FORMATS:
        raise unknown("format", format, formats.FORMATS)
    groups = list(comparable(results.frame, metric))
    if format == "csv":
        print(formats.to_csv([result_table(group) for group in groups]), end="")
    else:
        for group in groups:
            _print(result_table(group), format)
            for comparison in (equal_work_table(group), paired_table(group), target_table(group)):
                if comparison is not None:
                    _print(comparison, format, SHOWN_ROWS)
    console = Console(highlight=False, width=formats.WIDE, file=sys.stdout if format == "terminal" else sys.stderr)
    for line in remarks(results.frame, results.status, best_validation(results.frame, metric)):
        console.print(Text(line))
    for pattern in _file_patterns(results.status):
        console.print(Text(f"Parquet: {pattern}"), soft_wrap=True)


def _print(table: Table, format: str, most: int | None = None) -> None:  # noqa: A002
    if format == "terminal":
        formats.print_terminal(table, Console(highlight=False, width=formats.WIDE), most)
    else:
        print(formats.markdown(table) if format == "markdown" else formats.latex(table))


def result_tables(results: Results, metric: str | None = None) -> list[Table]:
    """`result_table` of each group of runs (`comparable`); `metric`, errors as in `best_validation`."""
    return [result_table(group) for group in comparable(results.frame, metric)]


def result_table(group: Group) -> Table:
    """The best validation of each setting and the test value there, mean (sd) over init.

    If a setting has four runs, the interval of the mean test value is shown too; if runs repeat a published experiment,
    its value as published and as corrected.
    """
    options = options_of(group.runs)
    names = ["policy", *settings(options)]
    summary = summarize(group.runs, group.metric)
    summary, notes = beside(group.dataset, group.metric, summary, options, names)
    measure = cells.measure_name(group.metric)
    columns = [
        *cells.setting_columns(summary, names),
        Column("runs", ["runs"], str),
        Column(f"valid {measure}", cells.moments("valid"), cells.mean_sd, best=True),
        Column(f"test {measure}", cells.moments("test"), cells.mean_sd, best=True),
    ]
    if summary["test_mean"].notna().any():
        columns += cells.interval_column(summary, "test", "runs", cells.interval)
    if "published" in summary:
        text = partial(cells.number, places=EXPERIMENTS[group.dataset].decimals)
        columns += [Column(name, [name], text) for name in ("published", "corrected")]
    columns += [
        Column(cells.measure_name(name), cells.moments(name), cells.mean_sd)
        for name in COMPANIONS
        if f"{name}_mean" in summary and name != group.metric.replace("valid_", "test_", 1)
    ]
    columns += [Column(name, [f"{name}_mean"], cells.number) for name in ("K", "epoch")]
    return cells.assembled(group, "", "best validation, mean (sd) over init", columns, summary, notes)


def remarks(frame: pd.DataFrame, status: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    """A line each for runs that failed, are not finished, or are left out, if there are any."""
    evaluated = set(frame[ID].unique())
    cases = {
        "failed; evaluations before that count above": status["state"] == FAILED,
        "not finished (running or killed); evaluations so far count above": ~status["state"].isin([FAILED, FINISHED]),
        "left out, no evaluation": ~status[ID].isin(evaluated),
        "left out, no finite value of the metric": status[ID].isin(evaluated - set(best[ID])),
    }
    ids = {what: list(status.loc[case, ID]) for what, case in cases.items()}
    return [f"{len(own)} of {len(status)} runs {what}: {_listed(own)}" for what, own in ids.items() if own]


def _file_patterns(status: pd.DataFrame) -> list[str]:
    """Where the runs' files are: a pattern for each folder of run directories, and each compacted folder."""
    folders = [Path(directory) for directory in status["directory"]]
    patterns = {
        str(folder.parent / "<experiment_id>" / "*.parquet" if folder.name == run else folder / "*.parquet")
        for folder, run in zip(folders, status[ID], strict=True)
    }
    return sorted(patterns)


def _listed(ids: Sequence[str]) -> str:
    more = len(ids) - SHOWN_IDS
    return " ".join(ids[:SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")
