"""The table of results: each policy at its best options, validation and test at the best validation."""

import math
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from rich.text import Text

from atbptt.errors import in_one_line, unknown
from atbptt.runs.schema import FAILED, FINISHED
from atbptt.system import Console, Lasting, print_text

from .. import statistics
from ..loading import Results, environment, own_id
from ..statistics import COMPANIONS, ID, Group, comparable
from . import cells, formats
from .cells import Column, Table
from .comparisons import compared_tables
from .marks import speed_remark, versions, with_notes, with_remarks
from .published import EXPERIMENTS, beside

SHOWN_ROWS = 10  # of the tables below the main one in a terminal
SHOWN_IDS = 6  # in a remark; the rest is counted
RATE = "lr in force"  # heading
COST_HEADINGS = dict(zip(statistics.COSTS, ("processor s in all", "peak MB", "peak GPU MB"), strict=True))
NOTES_CHARACTERS = 60  # of notes and tags in a cell


def print_table(
    results: Results,
    metric: str | None = None,
    format: str = "terminal",  # noqa: A002
    against: str | None = None,
) -> None:
    """Print for each dataset the table of results, every setting, and the comparisons of policies.

    Remarks on missing results and the places of the files follow: in a terminal below the tables, else on stderr, so
    that the output is a file to use. CSV has every setting and no comparisons, since a file has one header.

    Raises:
        AnalysisError: `format` is none of `FORMATS`; `metric` is not logged, no run has a finite value of it, or none
            the policy `against`; two runs are of one setting and one init.
    """
    if format not in formats.FORMATS:
        raise unknown("format", format, formats.FORMATS)
    groups = list(comparable(results.frame, metric))
    if format == "csv":
        print_text(formats.to_csv([settings_table(group, results) for group in groups]), end="")
    else:
        compared = compared_tables(results, groups, against)
        for group in groups:
            main, *others = tables_of(group, results)
            _print(main, format)
            for table in [*others, *(table for table in compared if table.keys == group.keys)]:
                _print(table, format, SHOWN_ROWS)
    console = Console(width=formats.WIDE, file=sys.stdout if format == "terminal" else Lasting(sys.stderr))
    for line in remarks(results, metric):
        console.print(Text(in_one_line(line)))
    for pattern in _file_patterns(results.status):
        console.print(Text(f"Parquet: {pattern}"), soft_wrap=True)


def _print(table: Table, format: str, most: int | None = None) -> None:  # noqa: A002
    if format == "terminal":
        formats.print_terminal(table, Console(width=formats.WIDE), most)
    else:
        print_text(formats.markdown(table) if format == "markdown" else formats.latex(table))


def result_tables(results: Results, metric: str | None = None) -> list[Table]:
    """`result_table` of each group of runs (`comparable`), with `settings_table` where options were chosen.

    `metric` and errors as in `summarize`.
    """
    return [table for group in comparable(results.frame, metric) for table in tables_of(group, results)]


def tables_of(group: Group, results: Results) -> list[Table]:
    """`result_table` of a group, and `settings_table` if a policy has several settings."""
    every = settings_table(group, results)
    return [result_table(group, results), *([] if every.frame["chosen"].all() else [every])]


def result_table(group: Group, results: Results) -> Table:
    """Each policy at the options that did best by validation: the best validation and the test value there.

    Mean (sd) over init of the runs that count, see `endings`; others are named in the row. Bold marks what cannot be
    told from the best. If runs repeat a published experiment, its value stands beside, as published and as corrected.
    """
    rows = _rows(group)
    rows = rows[rows["chosen"]].reset_index(drop=True)
    options = group.options
    rows = cells.with_bold(rows, group.standing, group.names, statistics.conditions(options), ("valid", "test"))
    rows, notes = beside(group, rows)
    rows = with_notes(with_remarks(rows, group, results), group)
    over = statistics.replicates(options)
    measure = cells.measure_name(group.metric)
    columns = [
        *cells.setting_columns(rows, group.names),
        *([Column("chosen", ["tried", "edge"], _choice, "left")] if (rows["tried"] > 1).any() else []),
        *_columns_of_runs(rows),
        Column(f"valid {measure}", cells.moments("valid"), cells.mean_sd, bold="valid_bold"),
        Column(f"test {measure}", cells.moments("test"), cells.mean_sd, bold="test_bold"),
        *_interval_of_test(rows),
    ]
    if "published" in rows:
        text = partial(cells.number, places=EXPERIMENTS[group.dataset].decimals)
        columns += [Column(name, [name], text) for name in ("published", "corrected")]
    columns += [*_companions(group, rows), *_columns_at_best(options, rows)]
    if not (rows["tried"] > 1).any():  # else those of every setting are in `settings_table`
        columns += _columns_of_costs(rows)
    columns += _columns_of_notes(rows)
    too_few = (rows["runs"] < statistics.LEAST_RUNS).any()
    if any(column.heading == RATE for column in columns):
        notes.append(f"{RATE}: after scaling with K and decay, at the best validation")
    if rows[["valid_bold", "test_bold"]].to_numpy().any():
        notes.append("bold: cannot be told from the best (Student's t test at equal init, corrected for all pairs)")
        if too_few:
            notes[-1] += f"; rows of fewer than {statistics.LEAST_RUNS} runs are not tested"
    elif len(rows) > 1 and too_few:
        notes.append(f"too few runs to tell policies apart: that takes {statistics.LEAST_RUNS} inits of each")
    if over == "init" and any(column.heading.endswith("interval") for column in columns):
        notes.append("intervals are over init: what another draw of the data or of probes changes is not in them")
    notes += speed_remark(group) if len(rows) > 1 else []
    what = "each policy at the options that validate best" if (rows["tried"] > 1).any() else "best validation"
    return cells.assembled(group, "", what + cells.mean_over(over, rows["valid_sd"]), columns, rows, notes)


def settings_table(group: Group, results: Results) -> Table:
    """The best validation of every setting; the test value of those chosen for a policy."""
    rows = with_notes(with_remarks(_rows(group), group, results), group)
    options = group.options
    measure = cells.measure_name(group.metric)
    columns = [
        *cells.setting_columns(rows, group.names),
        *_columns_of_runs(rows),
        Column(f"valid {measure}", cells.moments("valid"), cells.mean_sd),
        Column(f"test {measure}", cells.moments("test"), cells.mean_sd),
        *_interval_of_test(rows),
        *_companions(group, rows),
        *_columns_at_best(options, rows),
        *_columns_of_costs(rows),
        *_columns_of_notes(rows),
    ]
    title = "every setting, best validation" + cells.mean_over(statistics.replicates(options), rows["valid_sd"])
    return cells.assembled(group, "_settings", title, columns, rows)


def _rows(group: Group) -> pd.DataFrame:
    """`summarize`, with test values only of the settings chosen by validation."""
    rows = group.summary.copy()
    of_test = [name for name in map(str, rows) if name.startswith("test_")]
    rows[of_test] = rows[of_test].where(rows["chosen"])
    return rows


def _choice(tried: int, edge: str) -> str:
    """`best of 3, lr at the edge`; blank where there was no choice."""
    return "" if tried == 1 else f"best of {tried}" + (f", {edge} at the edge" if edge else "")


def _columns_of_runs(rows: pd.DataFrame) -> list[Column]:
    remarks = [Column("remarks", ["remarks"], align="left")] if (rows["remarks"] != "").any() else []
    return [Column("runs", ["runs", "planned"], _runs), *remarks]


def _runs(count: int, planned: int) -> str:
    return str(count) if count == planned else f"{count} of {planned}"


def _interval_of_test(rows: pd.DataFrame) -> list[Column]:
    known = rows["test_mean"].notna().any()
    return cells.interval_column(rows, "test", "runs", cells.interval) if known else []


def _companions(group: Group, rows: pd.DataFrame) -> list[Column]:
    names = (n for n in COMPANIONS if f"{n}_mean" in rows and n != statistics.of_test(group.metric))
    return [Column(cells.measure_name(name), cells.moments(name), cells.mean_sd) for name in names]


def _columns_at_best(options: pd.DataFrame, rows: pd.DataFrame) -> list[Column]:
    """The learning rate in force where it is not the one typed, K and epoch, at the best validation."""
    typed = rows["lr"] if "lr" in rows else options["lr"].iloc[0] if "lr" in options else rows["lr_in_force_mean"]
    other = ((rows["lr_in_force_mean"] - typed).abs() > 1e-6 * rows["lr_in_force_mean"]).any()
    rate = [Column(RATE, ["lr_in_force_mean"], "{:.3g}".format)] if other else []
    return [*rate, *(Column(name, [f"{name}_mean"], cells.number) for name in ("K", "epoch"))]


def _columns_of_costs(rows: pd.DataFrame) -> list[Column]:
    """Processor time with evaluations and probes, and the peak of memory, at the last evaluation."""
    known = ((name, heading) for name, heading in COST_HEADINGS.items() if f"{name}_mean" in rows)
    return [Column(heading, [f"{name}_mean"], partial(cells.amount, sd=math.nan)) for name, heading in known]


def _columns_of_notes(rows: pd.DataFrame) -> list[Column]:
    return [Column(name, [name], _shortened, "left") for name in ("tags", "notes") if name in rows]


def _shortened(text: str) -> str:
    return textwrap.shorten(text, NOTES_CHARACTERS, placeholder=" ...")


def remarks(results: Results, metric: str | None = None) -> list[str]:
    """A line each for runs that failed, are not finished, diverged or lack values, and for versions that differ."""
    frame, status = results.frame, results.status
    evaluated = set(frame[ID].unique())
    endings = statistics.endings(frame, metric)
    best = statistics.best_validation(frame, metric)
    cases = {
        "failed": status["state"] == FAILED,
        "are not finished (running or killed)": ~status["state"].isin([FAILED, FINISHED]),
        "diverged": status[ID].isin(endings.loc[endings["ending"] == statistics.DIVERGED, ID]),
        "have no evaluation": ~status[ID].isin(evaluated),
        f"have no finite value of {metric or 'the metric'}": status[ID].isin(evaluated - set(best[ID])),
    }
    ids = {what: list(status.loc[case, ID]) for what, case in cases.items()}
    found = [f"{len(own)} of {len(status)} runs {what}: {_listed(own)}" for what, own in ids.items() if own]
    return [*found, *versions(environment(Path(directory) for directory in status["directory"]))]


def _file_patterns(status: pd.DataFrame) -> list[str]:
    """Where the runs' files are: a pattern for each folder of run directories, and each compacted folder."""
    folders = [Path(directory) for directory in status["directory"]]
    ids = [own_id(str(run)) for run in status[ID]]
    of_runs = (folder.name == run for folder, run in zip(folders, ids, strict=True))
    parents = {f.parent / "<experiment_id>" if of_run else f for f, of_run in zip(folders, of_runs, strict=True)}
    return sorted(str(parent / "*.parquet") for parent in parents)


def _listed(ids: Sequence[str]) -> str:
    more = len(ids) - SHOWN_IDS
    return " ".join(ids[:SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")
