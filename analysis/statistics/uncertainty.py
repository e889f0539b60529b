"""Mean, spread and bootstrap interval of a few values, as those of a setting over its initialisations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

LEVEL = 0.95  # share of the resampled means that lie between `low` and `high`
RESAMPLES = 2000
INTERVAL_RUNS = 4  # with fewer values the interval is their range, which no table shows as an interval
SEED = 0  # the same values always have the same interval
COLUMNS = 512  # groups resampled at once, which bounds the memory


class Estimate(NamedTuple):
    """A mean and how sure it is; `low` and `high` are the ends of its interval."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


def estimate(values: Sequence[float] | np.ndarray | pd.Series) -> Estimate:
    """Mean, standard deviation and interval of some values.

    The interval is the percentile bootstrap's: values are drawn with replacement `RESAMPLES` times, and `LEVEL` of the
    means lie within. With fewer than four values it is simply their range, and with few it is too narrow.

    Arguments:
        values: NaN counts as not there, infinity stays.

    Returns:
        `n` values that are there; `mean`; `sd` (with n - 1; NaN for one value or where one is infinite); `low` and
        `high` (NaN for one value). All NaN for none.
    """
    array = np.asarray(values, dtype=float)
    (row,) = estimates(array, np.zeros(len(array), dtype=int), 1).itertuples(index=False)
    return Estimate(*row)


def estimates(values: np.ndarray, groups: np.ndarray, count: int) -> pd.DataFrame:
    """`estimate` for many groups of values at once.

    Arguments:
        values: (N,).
        groups: (N,), the number of each value's group, 0..count-1.
        count: of groups.

    Returns:
        A row per group: `n`, `mean`, `sd`, `low`, `high`.
    """
    there = ~np.isnan(values)
    values, groups = values[there], groups[there]
    values = values[np.lexsort((values, groups))]
    sizes = np.bincount(groups, minlength=count)
    starts = np.cumsum(sizes) - sizes
    result = np.full((4, count), np.nan)
    for n in np.unique(sizes[sizes > 0]):
        same = np.flatnonzero(sizes == n)
        for some in np.array_split(same, math.ceil(len(same) / COLUMNS)):
            result[:, some] = _moments(values[starts[some] + np.arange(n)[:, None]])
    mean, sd, low, high = result
    return pd.DataFrame({"n": sizes, "mean": mean, "sd": sd, "low": low, "high": high})


def _moments(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """(n, G) -> mean, sd, low, high, each (G,)."""
    n, groups = values.shape
    nothing = np.full(groups, np.nan)
    if n == 1:
        return values[0], nothing, nothing, nothing
    # Infinity minus infinity, and squares of what has diverged.
    with np.errstate(invalid="ignore", over="ignore"):
        sd = np.where(np.isfinite(values).all(axis=0), values.std(axis=0, ddof=1), np.nan)
        draws = np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))
        means = np.zeros((RESAMPLES, groups))
        for column in draws.T:
            means += values[column]
        means /= n
        # Means that were drawn, not interpolated between two of them: one may be infinite.
        ends = math.floor((1 - LEVEL) / 2 * (RESAMPLES - 1)), math.ceil((1 + LEVEL) / 2 * (RESAMPLES - 1))
        means.partition(ends, axis=0)
        return values.mean(axis=0), sd, means[ends[0]], means[ends[1]]
