"""The table of results: per policy setting, validation and test at the best validation."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pandas as pd
from rich.console import Console
from rich.text import Text

from analysis.loading import Results
from analysis.statistics import (
    COMPANIONS,
    INTERVAL_RUNS,
    KEY_OF_POLICY,
    LEVEL,
    Group,
    best_validation,
    comparable,
    options_of,
    policies,
    settings,
    summarize,
)
from analysis.tables import formats
from analysis.tables.cells import (
    Table,
    assembled,
    column,
    interval,
    mean_sd,
    measure_name,
    moments,
    setting_columns,
    short,
)
from analysis.tables.comparisons import equal_work_table, paired_table, target_table
from analysis.tables.published import Experiment, Value, differences, experiment, published
from analysis.tables.remarks import file_patterns, remarks
from atbptt.errors import unknown

SHOWN_ROWS = 10  # of the comparisons below the main table in a terminal
SHOWN_DIFFERENCES = 4  # from the published settings; the rest is counted


def print_table(results: Results, metric: str | None = None, format: str = "terminal") -> None:  # noqa: A002
    """Print for each dataset the table of results, and the comparisons of its policies where they have inits in common.

    What is missing from them and where the files are stands below in a terminal; otherwise it goes to stderr, so that
    the output is a file to use. CSV has the results without the comparisons, since a file has one header.

    Arguments:
        results: the runs.
        metric: as in `best_validation`.
        format: `terminal`, `markdown`, `latex` or `csv`.

    Raises:
        AnalysisError: another format; `metric` is not logged, or no run has a finite value of it.
    """
    if format not in formats.FORMATS:
        raise unknown("format", format, formats.FORMATS)
    groups = list(comparable(results.frame, metric))
    tables = [result_table(group) for group in groups]
    if format == "csv":
        print(formats.to_csv(tables), end="")
    else:
        for table, group in zip(tables, groups, strict=True):
            _print(table, format)
            for comparison in (equal_work_table(group), paired_table(group), target_table(group)):
                if comparison is not None:
                    _print(comparison.shortened(SHOWN_ROWS) if format == "terminal" else comparison, format)
    console = Console(highlight=False, width=formats.WIDE, file=sys.stdout if format == "terminal" else sys.stderr)
    for line in remarks(results.frame, results.status, best_validation(results.frame, metric)):
        console.print(Text(line))
    for pattern in file_patterns(results.status):
        console.print(Text(f"Parquet: {pattern}"), soft_wrap=True)


def _print(table: Table, format: str) -> None:  # noqa: A002
    if format == "terminal":
        formats.print_terminal(table, Console(highlight=False, width=formats.WIDE))
    else:
        print(formats.markdown(table) if format == "markdown" else formats.latex(table))


def result_tables(results: Results, metric: str | None = None) -> list[Table]:
    """A table for each experiment, dataset and metric, a row per setting: see `result_table`.

    Arguments:
        results: the runs.
        metric: as in `best_validation`.

    Raises:
        AnalysisError: no validation metric, no such one, or no finite value of it.
    """
    return [result_table(group) for group in comparable(results.frame, metric)]


def result_table(group: Group) -> Table:
    """The best validation of each setting and the test value there, mean (sd) over init.

    Where any setting has at least four runs, the interval of the mean test value stands beside; where runs repeat a
    published experiment, its value as published and as corrected. The lowest mean of the validation and of the test
    values is marked best.

    Arguments:
        group: as from `comparable`.
    """
    options = options_of(group.runs)
    names = ["policy", *settings(options)]
    source = experiment(group.dataset, group.metric)
    summary = summarize(group.runs, group.metric)
    notes: list[str] = []
    if source is not None:
        summary, notes = _beside(source, summary, options, names)
    measure = measure_name(group.metric)
    ends = ["test_low", "test_high"]
    with_interval = bool((summary["runs"] >= INTERVAL_RUNS).any() and summary["test_mean"].notna().any())

    parts = [
        *setting_columns(summary, names),
        column(summary, "runs", ["runs"], str),
        column(summary, f"valid {measure}", moments("valid"), mean_sd, best=True),
        column(summary, f"test {measure}", moments("test")[: 2 if with_interval else 4], mean_sd, best=True),
    ]
    if with_interval:
        shown = summary[[*ends, "test_mean", "test_sd"]].where(summary["runs"] >= INTERVAL_RUNS)
        texts = [interval(*row) for row in shown.itertuples(index=False)]
        head, cells = column(summary, f"{LEVEL:.0%} interval", ends, lambda *_: "")
        parts.append((head, [replace(cell, text=text) for cell, text in zip(cells, texts, strict=True)]))
    if source is not None and "published" in summary:
        style = f".{source.decimals}f"
        parts += [
            column(summary, name, [name], lambda value: "" if math.isnan(value) else f"{value:{style}}")
            for name in ("published", "corrected")
        ]
    parts += [
        column(summary, measure_name(name), moments(name), mean_sd)
        for name in COMPANIONS
        if f"{name}_mean" in summary and name != group.metric.replace("valid_", "test_", 1)
    ]
    parts += [column(summary, name.removesuffix("_mean"), [name], short) for name in ("K_mean", "epoch_mean")]

    return assembled(group, "", "best validation, mean (sd) over init", parts, notes)


def _beside(
    source: Experiment, summary: pd.DataFrame, options: pd.DataFrame, names: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The summary with columns `published` and `corrected`, if a setting is published; and what to know of them."""
    first = options.assign(policy=policies(options)).drop_duplicates(names)
    runs = summary[names].merge(first, on=names, how="left").to_dict("records")
    values: list[Value | None] = []
    others: dict[str, None] = {}
    seen: set[str] = set()
    for run in ({str(name): value for name, value in row.items()} for row in runs):
        policy, kind = run["policy"], str(run.get("truncation"))
        value = published(source, kind, run.get(f"truncation.{KEY_OF_POLICY.get(kind, '')}"))
        found = differences(source, run) if value else []
        if found:
            more = len(found) - SHOWN_DIFFERENCES
            others[", ".join(found[:SHOWN_DIFFERENCES]) + (f", and {more} more" if more > 0 else "")] = None
        # Of several published choices, as of lr, the better one counts: it comes first.
        values.append(None if found or (source.has_choices and policy in seen) else value)
        if values[-1]:
            seen.add(policy)
    notes = []
    if others:
        such = "such as " if len(others) > 1 else ""
        notes.append(f"no published value beside other settings: {such}{next(iter(others))}")
    if not any(values):
        return summary, notes
    if source.factor != 1:
        cause = "since the released evaluation divided by too long a length"
        notes.insert(0, f"corrected: with the mean loss over {source.factor:.4g}, {cause}")
    summary = summary.assign(
        published=[value.published if value else math.nan for value in values],
        corrected=[value.corrected if value else math.nan for value in values],
    )
    return summary, [*notes, *source.notes]
