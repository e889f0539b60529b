"""Curves of several runs on a common axis: mean, spread, best so far."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from analysis.statistics.summary import ID, labels, natural, options_of
from analysis.statistics.uncertainty import estimates
from atbptt.errors import unknown

# What a value can be drawn against: passes over the training stream, the same with the steps that the policy's probes
# read, optimizer steps, seconds of training.
AXES = ("epoch", "adaptive_epoch", "updates", "train_seconds")
BETWEEN = ("interpolate", "hold")
POINTS = 1000  # of a curve at most


def cumulative_best(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The lowest value of a metric so far, run by run.

    Returns:
        The rows of `metric` with all columns (of the first probe, where probes measure it), sorted by run and step,
        with the lowest finite value up to there in `value`; infinity before the first.
    """
    rows = _rows(frame, metric)
    finite = rows["value"].where(np.isfinite(rows["value"]), np.inf)
    return rows.assign(value=finite.groupby(rows[ID], sort=False).cummin())


def mean_curve(
    frame: pd.DataFrame,
    metric: str,
    axis: str = "epoch",
    between: str = "interpolate",
    at: np.ndarray | None = None,
) -> pd.DataFrame:
    """A metric over the runs in the frame (of one setting), against one of their clocks.

    Runs need not be evaluated at the same moments. A run is absent where it is not evaluated within half an interval
    between evaluations: not yet, or no more. NaN counts as infinity, so that a diverged run does not drop out.

    Arguments:
        frame: as from `load`, or from `cumulative_best`.
        metric: its name; of the first probe, where probes measure it.
        axis: `epoch`, `adaptive_epoch`, `updates` or `train_seconds` (s, comparable on equal machines only).
        between: the value between two evaluations: `interpolate`, on the straight line between them; or `hold`, that of
            the last one before, which is all that is known at that moment of a best value so far.
        at: clock values; by default those of the run with the most evaluations, or with `hold` of all runs, every
            value at which the mean steps (at most `POINTS` of them), up to where the first run ends that has as many
            epochs as any: by updates or seconds, equal budgets end at unequal values, and the mean would jump to those
            that are left.

    Returns:
        A row per clock value: `<axis>`, `mean`, `sd` (n - 1; NaN for one run or where one is infinite), `low` and
        `high` (interval of the mean, see `estimate`), `lowest` and `highest` of the runs, `runs` (how many are there).

    Raises:
        AnalysisError: another axis, or another word for `between`.
    """
    if axis not in AXES:
        raise unknown("axis", axis, AXES)
    if between not in BETWEEN:
        raise unknown("between", between, BETWEEN)
    runs = _runs(_rows(frame, metric), axis)
    if not runs:
        return _summary(axis, np.empty(0), np.empty((0, 0)))
    longest = max(runs, key=lambda run: len(run.clock)).clock
    reach = _half_interval(longest)
    if at is None:
        at = longest if between == "interpolate" else np.concatenate([run.clock for run in runs])
        at = _thinned(at[at <= _end(runs) + (reach if between == "interpolate" else 0)])
    return _summary(axis, at, np.stack([_values(run, at, between, reach) for run in runs]))


def compare(
    frame: pd.DataFrame, metric: str, axis: str = "epoch", between: str = "interpolate", points: int = 200
) -> pd.DataFrame:
    """`mean_curve` of every setting at the same clock values, evenly spaced over the range that all have in common.

    It begins where all runs have begun, and ends where the first setting ends: with the first of its runs that has as
    many epochs as any of them. A run that ended before that, or is not so far yet, drops out of the mean there, which
    `runs` tells. So settings are compared after equal work by the clock of the axis.

    Returns:
        A row per setting and clock value: `setting` (see `labels`), and the columns of `mean_curve`. Empty where there
        is no common range.

    Raises:
        AnalysisError: as `mean_curve`.
    """
    rows, settings = _rows_and_settings(frame, metric)
    first, last = _common_range(rows, settings, axis)
    at = np.unique(np.linspace(first, last, points)) if first <= last else np.empty(0)
    curves = {
        label: mean_curve(rows[settings == label], metric, axis, between, at)
        for label in sorted(settings.unique(), key=natural)
    }
    if not curves:
        return mean_curve(rows, metric, axis, between).assign(setting="")
    return pd.concat(curves, names=["setting"]).reset_index("setting").reset_index(drop=True)


def common_range(frame: pd.DataFrame, metric: str, axis: str) -> tuple[float, float]:
    """From where to where on a clock all settings have runs, see `compare`; the end is before the start if nowhere.

    Raises:
        AnalysisError: another axis.
    """
    return _common_range(*_rows_and_settings(frame, metric), axis)


def _rows_and_settings(frame: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, pd.Series]:
    options, rows = options_of(frame), _rows(frame, metric)
    return rows, rows[ID].map(pd.Series(labels(options).to_numpy(), index=options[ID]))


def _common_range(rows: pd.DataFrame, settings: pd.Series, axis: str) -> tuple[float, float]:
    if axis not in AXES:
        raise unknown("axis", axis, AXES)
    first = rows.groupby(ID)[axis].min().max()
    return float(first), min((_end(_runs(own, axis)) for _, own in rows.groupby(settings)), default=-np.inf)


@dataclass(frozen=True)
class _Run:
    clock: np.ndarray  # ascending
    value: np.ndarray
    epoch: np.ndarray


def _rows(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    rows = frame[(frame["metric"] == metric) & (frame["replicate"] == 0)]
    return rows.sort_values([ID, "step"], kind="stable").drop_duplicates([ID, "step"], keep="last")


def _runs(rows: pd.DataFrame, axis: str) -> list[_Run]:
    ids = rows[ID].to_numpy()
    clock, value, epoch = (rows[name].to_numpy(float) for name in (axis, "value", "epoch"))
    value = np.where(np.isnan(value), np.inf, value)
    bounds = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1), len(ids)]
    return [_Run(clock[a:b], value[a:b], epoch[a:b]) for a, b in pairwise(bounds) if a < b]


def _end(runs: list[_Run]) -> float:
    """Where on the clock the first run ends that has as many epochs as any."""
    longest = max(runs, key=lambda run: float(run.epoch[-1])).epoch
    enough = longest[-1] - (_half_interval(longest) if len(longest) > 1 else 0)
    return min(float(run.clock[-1]) for run in runs if run.epoch[-1] >= enough)


def _half_interval(clock: np.ndarray) -> float:
    return float(np.median(np.diff(clock))) / 2 if len(clock) > 1 else np.inf


def _thinned(clocks: np.ndarray) -> np.ndarray:
    clocks = np.unique(clocks)
    return clocks[np.unique(np.linspace(0, len(clocks) - 1, min(len(clocks), POINTS)).round().astype(int))]


def _values(run: _Run, at: np.ndarray, between: str, reach: float) -> np.ndarray:
    if between == "interpolate":
        values = np.interp(at, run.clock, run.value)
        values[np.isnan(values)] = np.inf  # between infinity and a number
        absent = (at < run.clock[0] - reach) | (at > run.clock[-1] + reach)
    else:
        values = run.value[np.searchsorted(run.clock, at, side="right") - 1]
        absent = (at < run.clock[0]) | (at > run.clock[-1] + reach)
    return np.where(absent, np.nan, values)


def _summary(axis: str, at: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """`values` (runs, clock values)."""
    points = np.broadcast_to(np.arange(len(at)), values.shape)
    moments = estimates(values.ravel(), points.ravel(), len(at))
    there = ~np.isnan(values)
    empty = np.full(len(at), np.nan)
    lowest, highest = (
        np.where(there.any(axis=0), side(np.where(there, values, fill), axis=0, initial=fill), empty)
        for side, fill in ((np.min, np.inf), (np.max, -np.inf))
    )
    return pd.DataFrame(
        {
            axis: at,
            **{name: moments[name] for name in ("mean", "sd", "low", "high")},
            "lowest": lowest,
            "highest": highest,
            "runs": moments["n"],
        }
    )
