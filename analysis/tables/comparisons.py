"""Tables that compare policies: differences at equal init, after equal work, and how long each takes to a value."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.loading import Results
from analysis.statistics import (
    AXES,
    GROUPED,
    ID,
    INTERVAL_RUNS,
    LEVEL,
    Group,
    common_range,
    comparable,
    cumulative_best,
    default_target,
    format_value,
    mean_curve,
    options_of,
    paired_differences,
    policies,
    settings,
    summarize_targets,
)
from analysis.tables.cells import (
    Table,
    amount,
    assembled,
    column,
    interval,
    mean_sd,
    measure_name,
    moments,
    setting_columns,
    signed,
)

PAIRS = 2  # of runs at least: one pair tells no spread
WORK = {"epoch": "epoch {:.3g}", "adaptive_epoch": "{:.3g} with probes", "train_seconds": "{:.3g} s"}
CLOCKS = dict(zip(AXES, ("epoch", "with probes", "updates", "train s"), strict=True))


def paired_tables(results: Results, metric: str | None = None, reference: str | None = None) -> list[Table]:
    """`paired_table` of each group of runs (`comparable`) that has one; `metric`, errors as in `best_validation`."""
    tables = [paired_table(group, reference) for group in comparable(results.frame, metric)]
    return [table for table in tables if table is not None]


def target_tables(results: Results, metric: str | None = None, target: float | None = None) -> list[Table]:
    """`target_table` of each group of runs (`comparable`) that has one; `metric`, errors as in `best_validation`."""
    tables = [target_table(group, target) for group in comparable(results.frame, metric)]
    return [table for table in tables if table is not None]


def equal_work_tables(results: Results, metric: str | None = None) -> list[Table]:
    """`equal_work_table` of each group of runs that has one; `metric`, errors as in `best_validation`."""
    tables = [equal_work_table(group) for group in comparable(results.frame, metric)]
    return [table for table in tables if table is not None]


def paired_table(group: Group, reference: str | None = None) -> Table | None:
    """How much worse each policy is than a reference, in pairs of runs of equal init and other options.

    Arguments:
        group: as from `comparable`.
        reference: a policy, by default the best, see `paired_differences`, which has the errors too.

    Returns:
        A row per policy and values of the other options that has two pairs, with the interval of the mean difference
        where there are at least four; None if there is no such row.
    """
    options = options_of(group.runs)
    rows = paired_differences(group.runs, group.metric, reference)
    rows = rows[rows["pairs"] >= PAIRS]
    if rows.empty:
        return None
    measure = measure_name(group.metric)
    of = "test" if rows["test_mean"].notna().any() else "valid"
    parts = [
        *setting_columns(rows, ["policy", *settings(options)]),
        column(rows, "pairs", ["pairs"], str),
        column(rows, f"valid {measure}", moments("valid"), lambda *row: signed(*row)[0]),
        column(rows, f"test {measure}", moments("test"), lambda *row: signed(*row)[0]),
    ]
    enough = rows["pairs"] >= INTERVAL_RUNS
    if enough.any():
        shown = rows[moments(of)].where(enough)
        parts.append(column(shown, f"{LEVEL:.0%} of {of}", moments(of), lambda *row: signed(*row)[1]))
    title = f"difference from {rows['reference'].iloc[0]} at equal init, mean (sd)"
    return assembled(group, "_pairs", title, parts)


def target_table(group: Group, target: float | None = None) -> Table | None:
    """When each setting reaches a validation value, by each clock: mean (sd) over the runs that do.

    Arguments:
        group: as from `comparable`.
        target: the value; by default the lowest that all runs of two policies reach, see `default_target`.

    Returns:
        A row per setting that any run reaches it with, those that reach it first, and a note of how many never do; None
        if no two policies have two inits in common, or no run comes to the value by training.
    """
    options = options_of(group.runs)
    if not _shared_inits(options):
        return None
    target = default_target(group.runs, group.metric) if target is None else target
    rows = summarize_targets(group.runs, group.metric, target)
    if not (rows["epoch_mean"] > 0).any():  # nobody reaches it, or only before training
        return None
    never = int((rows["reached"] == 0).sum())
    rows = rows[rows["reached"] > 0]
    probes = not rows["adaptive_epoch_mean"].equals(rows["epoch_mean"])
    parts = [
        *setting_columns(rows, ["policy", *settings(options)]),
        column(rows, "reached", ["reached", "runs"], lambda reached, runs: f"{reached} of {runs}"),
        *(
            column(
                rows, heading, [f"{axis}_{part}" for part in ("mean", "sd", "median")], lambda *row: amount(*row[:2])
            )
            for axis, heading in CLOCKS.items()
            if probes or axis != "adaptive_epoch"
        ),
    ]
    title = (
        f"until valid {measure_name(group.metric)} is at most {format_value(target)}, mean (sd) of runs that get there"
    )
    note = "1 other setting never gets there" if never == 1 else f"{never} other settings never get there"
    notes = [note] if never else []
    return assembled(group, "_target", title, parts, notes)


def equal_work_table(group: Group) -> Table | None:
    """The best validation so far of each setting, where all settings have had the same epochs, and the same time.

    Arguments:
        group: as from `comparable`.

    Returns:
        A row per setting, the best after equal epochs first: mean (sd) over the runs that are there, and where there
        are at least four the interval of the mean; by epoch, with the probes' steps counted, and by seconds of
        training. By updates nothing is compared: a policy that makes few of them would end the comparison before it
        began. None with a single setting, or where the settings have nothing in common. Between two evaluations the
        best so far is on the line between them: windows, and so evaluations, end at other steps in other runs.
    """
    options = options_of(group.runs)
    names = ["policy", *settings(options)]
    known = options[[ID]].assign(policy=policies(options), **{name: options[name] for name in names[1:]})
    best = cumulative_best(group.runs, group.metric)
    ends = {axis: common_range(best, group.metric, axis)[1] for axis in WORK}
    if best["epoch"].equals(best["adaptive_epoch"]):
        del ends["adaptive_epoch"]
    found = []
    for key, runs in known.groupby(names, **GROUPED):
        own = best[best[ID].isin(runs[ID])]
        row = dict(zip(names, key, strict=True))
        for axis, end in ends.items():
            curve = mean_curve(own, group.metric, axis, at=np.array([end]))
            row |= {f"{axis}_{part}": curve[part].iloc[0] for part in ("mean", "sd", "low", "high", "runs")}
        found.append(row)
    rows = pd.DataFrame(found)
    if len(rows) < PAIRS or not all(end > 0 for end in ends.values()):
        return None
    rows = rows.sort_values("epoch_mean", kind="stable", ignore_index=True)
    parts = setting_columns(rows, names)
    for axis, end in ends.items():
        parts.append(column(rows, WORK[axis].format(end), moments(axis), mean_sd, best=True))
        if (rows[f"{axis}_runs"] >= INTERVAL_RUNS).any():
            shown = rows[[f"{axis}_{part}" for part in ("low", "high", "mean", "sd")]]
            shown = shown.where(rows[f"{axis}_runs"] >= INTERVAL_RUNS)
            parts.append(column(shown, f"{LEVEL:.0%} interval", list(shown.columns), interval))
    title = f"best valid {measure_name(group.metric)} so far after equal work, mean (sd) over init"
    return assembled(group, "_equal_work", title, parts)


def _shared_inits(options: pd.DataFrame) -> bool:
    if "init" not in options:
        return False
    runs = pd.DataFrame({"init": options["init"], "policy": policies(options)}).drop_duplicates()
    return int((runs["init"].value_counts() > 1).sum()) >= PAIRS
