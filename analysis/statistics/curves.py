"""Curves of several runs on a common axis: mean, spread, best so far."""

import numpy as np
import pandas as pd

from atbptt.errors import unknown

from .ending import at_budget
from .options import ID, labels, natural, options_of
from .uncertainty import estimates
from .validation import is_perplexity

# Clocks: passes over the training stream, the same with the steps read by the policy's probes, optimizer steps,
# seconds of training: of the processor (on a GPU, the device), and on the wall.
AXES = ("epoch", "adaptive_epoch", "updates", "compute_seconds", "train_seconds")
BETWEEN = ("interpolate", "hold")
POINTS = 1000  # of a curve at most


def clocks_of(frame: pd.DataFrame) -> list[str]:
    """The clocks that all of the runs have, with the one of time by which they are best compared.

    That is the processor's, which other work on the machine does not change much; on the wall for runs of versions that
    did not store it. `adaptive_epoch` is left out if no probe of a policy read anything.
    """
    known = [axis for axis in AXES if axis in frame and frame[axis].notna().all()]
    without = {"train_seconds"} if "compute_seconds" in known else set()
    if "adaptive_epoch" in known and frame["adaptive_epoch"].equals(frame["epoch"]):
        without.add("adaptive_epoch")
    return [axis for axis in known if axis not in without]


def cumulative_best(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric, sorted by run and step, where `value` is the lowest finite value of the run so far.

    It is infinite before the first finite value. Of a metric that probes measure, the first probe counts.
    """
    rows = _rows(frame, metric)
    finite = rows["value"].where(np.isfinite(rows["value"]), np.inf)
    return rows.assign(value=finite.groupby(rows[ID], sort=False).cummin())


def mean_curve(
    frame: pd.DataFrame, metric: str, axis: str = "epoch", between: str = "interpolate", at: np.ndarray | None = None
) -> pd.DataFrame:
    """The mean of a metric over the runs in the frame (of one setting), against one of their clocks.

    Runs may be evaluated at different moments. A run counts from half an interval between evaluations before its first
    evaluation to half an interval after its last. NaN counts as infinity, so that a diverged run stays in the mean.

    Arguments:
        frame: as from `load`, or from `cumulative_best`.
        metric: of a metric that probes measure, the first probe counts.
        axis: one of `AXES`; seconds are comparable on equal machines only.
        between: the value between two evaluations: `interpolate` takes the straight line between them, `hold` the last
            one before.
        at: clock values. By default the evaluations of the longest run (`interpolate`), or of all runs (`hold`, at most
            `POINTS`), up to the end of the first run that has as many epochs as any: equal budgets end at unequal
            numbers of updates or seconds, and the mean would jump to the runs that are left.

    Returns:
        A row per clock value: `<axis>`, `mean`, `sd` (n - 1; NaN for one run or where one is infinite), `low` and
        `high` (interval of the mean, see `estimates`), `lowest` and `highest` of the runs, `runs` (their number there).

    Raises:
        AnalysisError: unknown `axis` or `between`.
    """
    _check_axis(axis)
    if between not in BETWEEN:
        raise unknown("between", between, BETWEEN)
    runs = _runs(_rows(frame, metric), axis)
    if not runs:
        return _summary(axis, np.empty(0), np.empty((0, 0)), log=False)
    longest, _, _ = max(runs, key=lambda run: run.shape[1])
    reach = _half_interval(longest)
    if at is None:
        at = longest if between == "interpolate" else np.concatenate([clock for clock, _, _ in runs])
        at = _thinned(at[at <= _end(runs) + (reach if between == "interpolate" else 0)])
    return _summary(axis, at, np.stack([_values(run, at, between, reach) for run in runs]), is_perplexity(metric))


def compare(
    frame: pd.DataFrame, metric: str, axis: str = "epoch", between: str = "interpolate", points: int = 200
) -> pd.DataFrame:
    """`mean_curve` of every setting at the same clock values, evenly spaced over the range that all have in common.

    Runs that have not reached their budget (failed, interrupted, running) are left out where any has. The range begins
    where all runs have begun, and ends where the first setting ends: with the first of its runs that has as many epochs
    as any of them.

    Returns:
        A row per setting and clock value: `setting` (see `labels`), and the columns of `mean_curve`. Empty where there
        is no common range.

    Raises:
        AnalysisError: unknown `axis` or `between`.
    """
    _check_axis(axis)
    options, rows = options_of(frame), _rows(frame, metric)
    whole = at_budget(rows, options)
    rows = rows[rows[ID].map(whole).astype(bool)] if whole.any() else rows
    if rows.empty:
        return mean_curve(rows, metric, axis, between).assign(setting="")
    settings = rows[ID].map(pd.Series(labels(options).to_numpy(), index=options[ID]))
    first = rows.groupby(ID)[axis].min().max()
    last = min(_end(_runs(own, axis)) for _, own in rows.groupby(settings))
    at = np.unique(np.linspace(first, last, points)) if first <= last else np.empty(0)
    curves = {
        label: mean_curve(rows[settings == label], metric, axis, between, at)
        for label in sorted(settings.unique(), key=natural)
    }
    return pd.concat(curves, names=["setting"]).reset_index("setting").reset_index(drop=True)


def _check_axis(axis: str) -> None:
    if axis not in AXES:
        raise unknown("axis", axis, AXES)


def _rows(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    rows = frame[(frame["metric"] == metric) & (frame["replicate"] == 0)]
    return rows.sort_values([ID, "step"], kind="stable").drop_duplicates([ID, "step"], keep="last")


def _runs(rows: pd.DataFrame, axis: str) -> list[np.ndarray]:
    """Clock, value and epoch of each run, (3, evaluations)."""
    if rows.empty:
        return []
    ids = rows[ID].to_numpy()
    table = np.array(rows[[axis, "value", "epoch"]], dtype=float).T
    table[1, np.isnan(table[1])] = np.inf
    return np.split(table, np.flatnonzero(ids[1:] != ids[:-1]) + 1, axis=1)


def _end(runs: list[np.ndarray]) -> float:
    """The clock at the end of the first run that has as many epochs as any."""
    _, _, longest = max(runs, key=lambda run: float(run[2, -1]))
    enough = longest[-1] - (_half_interval(longest) if len(longest) > 1 else 0)
    return min(float(clock[-1]) for clock, _, epoch in runs if epoch[-1] >= enough)


def _half_interval(clock: np.ndarray) -> float:
    return float(np.median(np.diff(clock))) / 2 if len(clock) > 1 else np.inf


def _thinned(clocks: np.ndarray) -> np.ndarray:
    clocks = np.unique(clocks)
    return clocks[np.unique(np.linspace(0, len(clocks) - 1, min(len(clocks), POINTS)).round().astype(int))]


def _values(run: np.ndarray, at: np.ndarray, between: str, reach: float) -> np.ndarray:
    clock, value, _ = run
    if between == "interpolate":
        values = np.interp(at, clock, value)
        values[np.isnan(values)] = np.inf  # between infinity and a number
        absent = (at < clock[0] - reach) | (at > clock[-1] + reach)
    else:
        values = value[np.searchsorted(clock, at, side="right") - 1]
        absent = (at < clock[0]) | (at > clock[-1] + reach)
    return np.where(absent, np.nan, values)


def _summary(axis: str, at: np.ndarray, values: np.ndarray, log: bool) -> pd.DataFrame:
    """`values` (runs, clock values)."""
    points = np.broadcast_to(np.arange(len(at)), values.shape)
    rows = estimates(values.ravel(), points.ravel(), len(at), log).rename(columns={"n": "runs"})
    for name, extreme in (("lowest", np.fmin), ("highest", np.fmax)):  # these ignore NaN
        rows[name] = extreme.reduce(values, axis=0, initial=np.nan)
    rows[axis] = at
    return rows[[axis, "mean", "sd", "low", "high", "lowest", "highest", "runs"]]
