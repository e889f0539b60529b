"""Tables that compare policies, each at its best options: at equal init, after equal work, by the time to a value."""

from collections.abc import Hashable, Iterable, Sequence

from atbptt.errors import unknown

from .. import statistics
from ..loading import Results
from ..statistics import ID, LEVEL, Group
from . import cells
from .cells import Column, Table

PAIRS = 2  # at least, for a table: one pair has no spread
WORK = {
    "epoch": "epoch {:.3g}",
    "adaptive_epoch": "epoch {:.3g} with probes",
    "compute_seconds": "{:.3g} processor s",
    "train_seconds": "{:.3g} s",
}
CLOCKS = dict(zip(statistics.AXES, ("epoch", "with probes", "updates", "processor s", "train s"), strict=True))


def compared_tables(results: Results, groups: Iterable[Group], against: str | None = None) -> list[Table]:
    """For each group of runs the tables that its runs allow: after equal work, paired differences, time to a target.

    Arguments:
        results: of all groups.
        groups: as from `comparable`.
        against: the policy that others are compared with, in groups that have it; by default, and in other groups, the
            first in the sweep's command that has complete runs.

    Raises:
        AnalysisError: no group has the policy `against`.
    """
    groups = list(groups)
    names = {name for group in groups for name in statistics.policies(group.options)}
    if against is not None and against not in names:
        raise unknown("against", against, sorted(names, key=statistics.natural))
    found: list[Table | None] = []
    for group in groups:
        chosen = reference(group, results.order, against)
        asked = against is not None and chosen == against
        found += [equal_work_table(group), paired_table(group, chosen, always=asked), target_table(group)]
    return [table for table in found if table is not None]


def reference(group: Group, order: Sequence[str], against: str | None = None) -> str | None:
    """`against` if the group has it, else the first policy with complete runs in this order; None if there is none."""
    names = dict(zip(group.options[ID], statistics.policies(group.options), strict=True))
    if against in names.values():
        return against
    complete = {*group.standing["policy"]}
    return next((names[run] for run in order if names.get(run) in complete), None)


def paired_table(group: Group, against: str | None = None, always: bool = False) -> Table | None:
    """`paired_differences` of each policy; None if none has two pairs, unless it is asked for `always`."""
    rows = statistics.paired_differences(group.runs, group.metric, against)
    if not always and not (rows["pairs"] >= PAIRS).any():
        return None
    measure = cells.measure_name(group.metric)
    of = "test" if rows["test_mean"].notna().any() else "valid"
    unit, text, ends = f" {measure}", cells.difference, cells.difference_interval
    if statistics.is_perplexity(group.metric):
        unit, text, ends = f" {measure}, %", cells.in_percent(text), cells.in_percent(ends)
    columns = [
        *cells.setting_columns(rows, group.names),
        Column("pairs", ["pairs"], str),
        Column(f"valid{unit}", cells.moments("valid"), text),
        Column(f"test{unit}", cells.moments("test"), text),
        *cells.interval_column(rows, of, "pairs", ends, f"{LEVEL:.0%} of {of}"),
        Column("p", ["p"], cells.probability),
        *([Column("p of signs", ["p_signs"], cells.probability)] if rows["p_signs"].notna().any() else []),
        Column("verdict", ["verdict"], align="left"),
    ]
    tests = int(rows["p"].notna().sum())
    notes = [f"p: Student's t test of the {of} value, corrected for {tests} rows (Holm)"] if tests > 1 else []
    notes += ["no finished run of it has the init of one of another policy"] if rows.empty else []
    title = f"difference from {against or rows['against'].iloc[0]} at equal init, mean (sd)"
    return cells.assembled(group, "_pairs", title, columns, rows, notes)


def target_table(group: Group, target: float | None = None) -> Table | None:
    """When each policy reaches the target (by default `default_target`), and a note that counts those that do not.

    None if no two policies have two inits in common, or no run reaches the target by training.
    """
    runs = group.standing
    if (runs["init"].value_counts() > 1).sum() < PAIRS:
        return None
    frame = group.runs[group.runs[ID].isin(runs[ID])]
    target = statistics.default_target(frame, group.metric) if target is None else target
    names = group.names
    rows = statistics.summarize_targets(group.runs, group.metric, target)
    rows = rows.merge(runs[names].drop_duplicates(), on=names)
    if not (rows["epoch_mean"] > 0).any():  # no run reaches it, or only before training
        return None
    never = int((rows["reached"] == 0).sum())
    rows = rows[rows["reached"] > 0]
    columns = [
        *cells.setting_columns(rows, names),
        Column("reached", ["reached", "runs"], "{} of {}".format),
        *(
            Column(CLOCKS[axis], [f"{axis}_mean", f"{axis}_sd"], cells.amount)
            for axis in statistics.clocks_of(frame)
            if f"{axis}_mean" in rows
        ),
    ]
    goal = f"valid {cells.measure_name(group.metric)} of at most {statistics.format_value(target)}"
    notes = ["1 other policy never reaches it" if never == 1 else f"{never} other policies never reach it"]
    title = f"time to a {goal}, mean (sd) of the runs that reach it"
    return cells.assembled(group, "_target", title, columns, rows, notes if never else [])


def equal_work_table(group: Group) -> Table | None:
    """The best validation so far of each policy after equal epochs, and after equal seconds of training.

    That is the last value before, and the work that all finished runs have done. Not after equal updates: a policy that
    makes few of them would end the comparison at its beginning. The best after equal epochs comes first. None for a
    single policy, or without a common range.
    """
    runs, names = group.standing.copy(), group.names
    best = statistics.cumulative_best(group.runs[group.runs[ID].isin(runs[ID])], group.metric)
    ends = {axis: best.groupby(ID)[axis].max().min() for axis in statistics.clocks_of(best) if axis in WORK}
    if len(runs[names].drop_duplicates()) < 2 or not min(ends.values()) > 0:
        return None
    for axis, end in ends.items():
        held = best[best[axis] <= end].drop_duplicates(ID, keep="last").set_index(ID)["value"]
        runs[axis] = runs[ID].map(held)
    keys: list[Hashable] = [*names, "metric"]
    rows = statistics.grouped(runs, keys, list(ends))
    rows = cells.with_bold(rows, runs, names, statistics.conditions(group.options), list(ends))
    columns = cells.setting_columns(rows, names)
    for axis, end in ends.items():
        columns.append(Column(WORK[axis].format(end), cells.moments(axis), cells.mean_sd, bold=f"{axis}_bold"))
        columns += cells.interval_column(rows, axis, "runs", cells.interval)
    over = cells.mean_over(statistics.replicates(group.options), rows["epoch_sd"])
    title = f"best valid {cells.measure_name(group.metric)} so far after equal work{over}"
    rows = rows.sort_values("epoch_mean", kind="stable")
    return cells.assembled(group, "_equal_work", title, columns, rows)
