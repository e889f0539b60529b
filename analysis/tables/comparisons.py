"""Tables that compare policies: at equal init, after equal work, and by the time to a value."""

from collections.abc import Callable

import pandas as pd

from analysis import statistics
from analysis.loading import Results
from analysis.statistics import Group
from analysis.tables import cells
from analysis.tables.cells import Column, Table

PAIRS = 2  # at least: one pair has no spread
WORK = {"epoch": "epoch {:.3g}", "adaptive_epoch": "{:.3g} with probes", "train_seconds": "{:.3g} s"}
CLOCKS = dict(zip(statistics.AXES, ("epoch", "with probes", "updates", "train s"), strict=True))


def paired_tables(results: Results, metric: str | None = None, reference: str | None = None) -> list[Table]:
    """`paired_table` of each group of runs (`comparable`) that has one; `metric`, errors as in `best_validation`."""
    return _tables(results, metric, lambda group: paired_table(group, reference))


def target_tables(results: Results, metric: str | None = None, target: float | None = None) -> list[Table]:
    """`target_table` of each group of runs (`comparable`) that has one; `metric`, errors as in `best_validation`."""
    return _tables(results, metric, lambda group: target_table(group, target))


def equal_work_tables(results: Results, metric: str | None = None) -> list[Table]:
    """`equal_work_table` of each group of runs that has one; `metric`, errors as in `best_validation`."""
    return _tables(results, metric, equal_work_table)


def _tables(results: Results, metric: str | None, made: Callable[[Group], Table | None]) -> list[Table]:
    return [table for group in statistics.comparable(results.frame, metric) if (table := made(group)) is not None]


def paired_table(group: Group, reference: str | None = None) -> Table | None:
    """`paired_differences` of each policy and setting that has two pairs; None if no setting has."""
    rows = statistics.paired_differences(group.runs, group.metric, reference)
    rows = rows[rows["pairs"] >= PAIRS]
    if rows.empty:
        return None
    measure = cells.measure_name(group.metric)
    of = "test" if rows["test_mean"].notna().any() else "valid"
    columns = [
        *cells.setting_columns(rows, statistics.described(group.runs).columns.drop(statistics.ID)),
        Column("pairs", ["pairs"], str),
        Column(f"valid {measure}", cells.moments("valid"), cells.difference),
        Column(f"test {measure}", cells.moments("test"), cells.difference),
        *cells.interval_column(rows, of, "pairs", cells.difference_interval, f"{statistics.LEVEL:.0%} of {of}"),
    ]
    title = f"difference from {rows['reference'].iloc[0]} at equal init, mean (sd)"
    return cells.assembled(group, "_pairs", title, columns, rows)


def target_table(group: Group, target: float | None = None) -> Table | None:
    """When each setting reaches the target (by default `default_target`), and a note that counts those that do not.

    None if no two policies have two inits in common, or no run reaches the target by training.
    """
    options = statistics.options_of(group.runs)
    if "init" not in options:
        return None
    pairs = pd.DataFrame({"init": options["init"], "policy": statistics.policies(options)}).drop_duplicates()
    if (pairs["init"].value_counts() > 1).sum() < PAIRS:
        return None
    target = statistics.default_target(group.runs, group.metric) if target is None else target
    rows = statistics.summarize_targets(group.runs, group.metric, target)
    if not (rows["epoch_mean"] > 0).any():  # no run reaches it, or only before training
        return None
    never = int((rows["reached"] == 0).sum())
    rows = rows[rows["reached"] > 0]
    probes = not rows["adaptive_epoch_mean"].equals(rows["epoch_mean"])
    columns = [
        *cells.setting_columns(rows, statistics.described(group.runs).columns.drop(statistics.ID)),
        Column("reached", ["reached", "runs"], "{} of {}".format),
        *(
            Column(heading, [f"{axis}_mean", f"{axis}_sd"], cells.amount)
            for axis, heading in CLOCKS.items()
            if probes or axis != "adaptive_epoch"
        ),
    ]
    goal = f"valid {cells.measure_name(group.metric)} of at most {statistics.format_value(target)}"
    notes = ["1 other setting never reaches it" if never == 1 else f"{never} other settings never reach it"]
    title = f"time to a {goal}, mean (sd) of the runs that reach it"
    return cells.assembled(group, "_target", title, columns, rows, notes if never else [])


def equal_work_table(group: Group) -> Table | None:
    """The best validation so far of each setting after equal epochs, and after equal seconds of training.

    Not after equal updates: a policy that makes few of them would end the comparison at its beginning.

    The best so far is interpolated between evaluations. The best after equal epochs comes first. None for a single
    setting, or without a common range.
    """
    options = statistics.options_of(group.runs)
    runs = statistics.described(group.runs)
    rows = runs.assign(setting=statistics.labels(options)).drop_duplicates("setting")
    best = statistics.cumulative_best(group.runs, group.metric)
    axes = [axis for axis in WORK if axis != "adaptive_epoch" or not best["epoch"].equals(best["adaptive_epoch"])]
    columns = []
    for axis in axes:
        curves = statistics.compare(best, group.metric, axis, points=2)
        end = curves[axis].max()
        if len(rows) < 2 or not end > 0:
            return None
        at_end = curves[curves[axis] == end].drop(columns=axis).set_index("setting").add_prefix(f"{axis}_")
        rows = rows.join(at_end, on="setting")
        columns.append(Column(WORK[axis].format(end), cells.moments(axis), cells.mean_sd, best=True))
        columns += cells.interval_column(rows, axis, f"{axis}_runs", cells.interval)
    rows = rows.sort_values("epoch_mean", kind="stable")
    title = f"best valid {cells.measure_name(group.metric)} so far after equal work, mean (sd) over init"
    return cells.assembled(
        group, "_equal_work", title, [*cells.setting_columns(rows, runs.columns.drop(statistics.ID)), *columns], rows
    )
