"""What a reader of a table must know of its runs: which did not finish, which machine was busy, which code differs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from atbptt.runs.schema import FINISHED

from .. import statistics
from ..loading import Results
from ..statistics import COMPLETE, DIVERGED, ID, Group

SPEED_RATIO = 1.3  # of runs with equal K and model, above which time is no fair clock
OF_SPEED = ("model", "dataset", "device", "scheme", "optimizer")  # groups of options, beside K
SHOWN = 3  # values that differ


def with_remarks(rows: pd.DataFrame, group: Group, results: Results) -> pd.DataFrame:
    """Rows of `summarize` with `runs` (complete ones that make the mean), `planned`, and `remarks` on the others.

    `planned` counts all runs of the setting, also those that have no evaluation yet.
    """
    names = group.names
    evaluated = statistics.described(group.runs).merge(rows[names].assign(row=rows.index), on=names)
    row_of = dict(zip(evaluated[ID], evaluated["row"], strict=True))
    planned = results.options[results.options[ID].isin(group.options[ID]) | _is_of(results.options, group)]
    # By what tells all of these apart: an option may have a value of which no run came to an evaluation.
    setting_of = dict(zip(planned[ID], statistics.labels(planned), strict=True))
    row_by_setting = {setting_of[run]: row for run, row in row_of.items()}
    endings = group.endings.set_index(ID)["ending"]
    statuses = results.status.set_index(ID)
    found: dict[Any, list[str]] = {row: [] for row in rows.index}
    for run, setting in setting_of.items():
        row = row_of.get(run, row_by_setting.get(setting))
        if row is not None:
            status: Mapping[str, Any] = dict(statuses.loc[run]) if run in statuses.index else {}
            found[row].append(_remark(endings.get(run, ""), status))
    return rows.assign(
        runs=rows["runs"].where(rows["ending"] == COMPLETE, 0),
        planned=[len(found[row]) for row in rows.index],
        remarks=[_counted_remarks(filter(None, found[row])) for row in rows.index],
    )


def with_notes(rows: pd.DataFrame, group: Group) -> pd.DataFrame:
    """Rows of `summarize` with `tags` and `notes`, if any run has them: each that a run of the setting has, once."""
    names = group.names
    evaluated = statistics.described(group.runs).merge(rows[names].assign(row=rows.index), on=names)
    row_of = dict(zip(evaluated[ID], evaluated["row"], strict=True))
    for name, comma in (("tags", ", "), ("notes", "; ")):
        if name in group.options and group.options[name].notna().any():
            found: dict[Any, dict[str, None]] = {row: {} for row in rows.index}
            for run, text in group.options.set_index(ID)[name].dropna().items():
                if run in row_of:
                    found[row_of[run]] |= dict.fromkeys(text.split(comma) if name == "tags" else [text])
            rows = rows.assign(**{name: [comma.join(each) for each in found.values()]})
    return rows


def _counted_remarks(remarks: Iterable[str]) -> str:
    return ", ".join(what if n == 1 else f"{n} {what}" for what, n in Counter(remarks).items())


def _is_of(options: pd.DataFrame, group: Group) -> pd.Series:
    named = options.reindex(columns=["name", "dataset"]).astype(object)
    named = named.where(named.notna(), "unknown").astype(str)
    return (named["name"] == group.experiment) & (named["dataset"] == group.dataset)


def _texts(options: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, ...]]:
    columns = [options[name].map(statistics.format_value) for name in names]
    return list(zip(*columns, strict=True)) if columns else [()] * len(options)


def _remark(ending: str, status: Mapping[str, Any]) -> str:
    """`failed at 2 of 6`, `diverged`; empty for a run that makes the mean."""
    if ending == COMPLETE:
        return ""
    reached, epochs, state = (status.get(name) for name in ("epoch", "epochs", "state"))
    where = "" if pd.isna(reached) or pd.isna(epochs) else f" at {reached:.3g} of {epochs:g}"
    if ending == DIVERGED:
        return "diverged" if state == FINISHED else f"diverged{where}"
    return f"{'unfinished' if pd.isna(state) or state == FINISHED else state}{where}"


def speed_remark(group: Group) -> list[str]:
    """A line if runs with equal K and model trained at speeds that differ by more than `SPEED_RATIO`.

    The speeds compared are of one kind of policy, since the time of its probes counts; those of different kinds where
    it is told how long the processor was at other work.
    """
    names = ["mean_K", "steps_per_second", "steps_per_compute_second"]
    rows = group.runs[group.runs["metric"].isin(names)]
    logged = rows.pivot_table("value", [ID, "step"], "metric", observed=True, aggfunc="last").reindex(columns=names)
    logged["waiting"] = logged["steps_per_compute_second"] / logged["steps_per_second"]
    low, high, K = _extremes(logged, "steps_per_second", group.options, [*OF_SPEED, "truncation", "probe"])
    why = "as when other work ran on the machine: trust processor seconds or epochs"
    if high / low > SPEED_RATIO:
        what = f"K={K:.0f}: {low:,.0f} to {high:,.0f} steps a second"
        return [f"speeds of runs with equal K and model differ by a factor of {high / low:.2g} ({what}), {why}"]
    low, high, K = _extremes(logged, "waiting", group.options, OF_SPEED)
    if high / low > SPEED_RATIO:
        what = f"K={K:.0f}: {low:.2g} to {high:.2g} seconds for one of the processor"
        return [f"runs with equal K and model waited for the processor unequally ({what}), {why}"]
    return []


def _extremes(
    logged: pd.DataFrame, value: str, options: pd.DataFrame, groups: Sequence[str]
) -> tuple[float, float, float]:
    """Least and largest median over a run of a value at one K and equal options of these groups; and that K.

    Of those that differ most; ones where nothing is logged.
    """
    options = options.set_index(ID)
    # Of the policy only its kind: its options decide K.
    names = [name for name in map(str, options) if name in groups or name.split(".")[0] in {*groups} - {"truncation"}]
    known = logged[["mean_K", value]].dropna().reset_index()
    if known.empty:
        return 1.0, 1.0, 1.0
    known["K"] = known["mean_K"].round()
    medians = known.groupby([ID, "K"])[value].median().reset_index()
    same = dict(zip(options.index, _texts(options, names), strict=True))
    extremes = medians.groupby([medians[ID].map(same), "K"])[value].agg(["min", "max"]).reset_index()
    worst = extremes.iloc[int((extremes["max"] / extremes["min"]).argmax())]
    return float(worst["min"]), float(worst["max"]), float(worst["K"])


def versions(environment: Mapping[str, Any]) -> list[str]:
    """A line each if runs come from several commits of the code, changed code, or different packages.

    `environment` is from `analysis.loading`.
    """
    software = environment["software"]
    lines = []
    codes: Counter[str] = Counter()
    for own in software:
        names = [
            commit[:10] + (f" with changes {diff}".rstrip() if dirty else "") for commit, dirty, diff in own["code"]
        ]
        codes[", ".join(names) or "no commit"] += own["runs"]
    if len(codes) > 1:
        lines.append(f"runs come from {len(codes)} versions of the code: {_counted(codes)}")
    differ = []
    for name, found in [("Python", [own["python"] for own in software]), *environment["packages"]]:
        counts: Counter[str] = Counter()
        for version, own in zip(found, software, strict=True):
            counts[version] += own["runs"]
        differ += [f"{name} {_counted(counts)}"] if len(counts) > 1 else []
    if differ:
        more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        lines.append(f"runs ran with different packages: {'; '.join(differ[:SHOWN])}{more}")
    return lines


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({'1 run' if n == 1 else f'{n} runs'})" for name, n in counts.most_common(SHOWN))
