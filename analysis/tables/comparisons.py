"""Tables that compare policies: at equal init, after equal work, and by the time to a value."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.loading import Results
from analysis.statistics import (
    AXES,
    ID,
    LEVEL,
    Group,
    comparable,
    compare,
    cumulative_best,
    default_target,
    described,
    format_value,
    labels,
    options_of,
    paired_differences,
    policies,
    summarize_targets,
)
from analysis.tables.cells import (
    Column,
    Table,
    amount,
    assembled,
    difference,
    difference_interval,
    interval,
    interval_column,
    mean_sd,
    measure_name,
    moments,
    setting_columns,
)

PAIRS = 2  # of runs at least: one pair has no spread
WORK = {"epoch": "epoch {:.3g}", "adaptive_epoch": "{:.3g} with probes", "train_seconds": "{:.3g} s"}
CLOCKS = dict(zip(AXES, ("epoch", "with probes", "updates", "train s"), strict=True))


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
    return [table for group in comparable(results.frame, metric) if (table := made(group)) is not None]


def paired_table(group: Group, reference: str | None = None) -> Table | None:
    """How much worse each policy is than a reference, in pairs of runs of equal init and other options.

    Arguments:
        group: as from `comparable`.
        reference: a policy, by default the best, see `paired_differences`, which has the errors too.

    Returns:
        A row per policy and setting that has two pairs, with the interval of the mean difference from four pairs on;
        None if there is no such row.
    """
    rows = paired_differences(group.runs, group.metric, reference)
    rows = rows[rows["pairs"] >= PAIRS]
    if rows.empty:
        return None
    measure = measure_name(group.metric)
    of = "test" if rows["test_mean"].notna().any() else "valid"
    columns = [
        *setting_columns(rows, described(group.runs).columns.drop(ID)),
        Column("pairs", ["pairs"], str),
        Column(f"valid {measure}", moments("valid"), difference),
        Column(f"test {measure}", moments("test"), difference),
        *interval_column(rows, of, "pairs", difference_interval, f"{LEVEL:.0%} of {of}"),
    ]
    title = f"difference from {rows['reference'].iloc[0]} at equal init, mean (sd)"
    return assembled(group, "_pairs", title, columns, rows)


def target_table(group: Group, target: float | None = None) -> Table | None:
    """When each setting reaches a validation value, by each clock: mean (sd) over the runs that do.

    Arguments:
        group: as from `comparable`.
        target: the value; by default the lowest that all runs of two policies reach, see `default_target`.

    Returns:
        A row per setting that any run reaches it with, the most and soonest first, and a note that counts the others.
        None if no two policies have two inits in common, or no run reaches the value by training.
    """
    if not _share_inits(options_of(group.runs)):
        return None
    target = default_target(group.runs, group.metric) if target is None else target
    rows = summarize_targets(group.runs, group.metric, target)
    if not (rows["epoch_mean"] > 0).any():  # no run reaches it, or only before training
        return None
    never = int((rows["reached"] == 0).sum())
    rows = rows[rows["reached"] > 0]
    probes = not rows["adaptive_epoch_mean"].equals(rows["epoch_mean"])
    columns = [
        *setting_columns(rows, described(group.runs).columns.drop(ID)),
        Column("reached", ["reached", "runs"], "{} of {}".format),
        *(
            Column(heading, [f"{axis}_mean", f"{axis}_sd"], amount)
            for axis, heading in CLOCKS.items()
            if probes or axis != "adaptive_epoch"
        ),
    ]
    goal = f"valid {measure_name(group.metric)} of at most {format_value(target)}"
    notes = ["1 other setting never reaches it" if never == 1 else f"{never} other settings never reach it"]
    return assembled(
        group,
        "_target",
        f"time to a {goal}, mean (sd) of the runs that reach it",
        columns,
        rows,
        notes if never else [],
    )


def equal_work_table(group: Group) -> Table | None:
    """The best validation so far of each setting after equal epochs, and after equal seconds of training.

    Not after equal updates: a policy that makes few of them would end the comparison at its beginning.

    Arguments:
        group: as from `comparable`.

    Returns:
        A row per setting, the best after equal epochs first: mean (sd) over the runs that are there, and from four runs
        on the interval of the mean; by epoch, by epoch with the probes' steps, and by seconds. The best so far is
        interpolated between evaluations. None for a single setting, or without a common range.
    """
    options = options_of(group.runs)
    runs = described(group.runs)
    rows = runs.assign(setting=labels(options)).drop_duplicates("setting")
    best = cumulative_best(group.runs, group.metric)
    axes = [axis for axis in WORK if axis != "adaptive_epoch" or not best["epoch"].equals(best["adaptive_epoch"])]
    columns = []
    for axis in axes:
        curves = compare(best, group.metric, axis, points=2)
        end = curves[axis].max()
        if len(rows) < 2 or not end > 0:
            return None
        at_end = curves[curves[axis] == end].drop(columns=axis).set_index("setting").add_prefix(f"{axis}_")
        rows = rows.join(at_end, on="setting")
        columns.append(Column(WORK[axis].format(end), moments(axis), mean_sd, best=True))
        columns += interval_column(rows, axis, f"{axis}_runs", interval)
    rows = rows.sort_values("epoch_mean", kind="stable")
    title = f"best valid {measure_name(group.metric)} so far after equal work, mean (sd) over init"
    return assembled(group, "_equal_work", title, [*setting_columns(rows, runs.columns.drop(ID)), *columns], rows)


def _share_inits(options: pd.DataFrame) -> bool:
    """Whether at least two inits are those of several policies."""
    if "init" not in options:
        return False
    runs = pd.DataFrame({"init": options["init"], "policy": policies(options)}).drop_duplicates()
    return int((runs["init"].value_counts() > 1).sum()) >= PAIRS
