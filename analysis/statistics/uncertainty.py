"""Mean, spread and bootstrap interval of a few values, as those of a setting over its initialisations."""

import math

import numpy as np
import pandas as pd

LEVEL = 0.95  # share of the resampled means that lie between `low` and `high`
RESAMPLES = 2000
INTERVAL_RUNS = 4  # with fewer values the interval is their range, which no table shows as an interval
SEED = 0  # the same values always have the same interval
COLUMNS = 512  # groups resampled at once, which bounds the memory


def estimates(values: np.ndarray, groups: np.ndarray, count: int) -> pd.DataFrame:
    """Mean, standard deviation and percentile bootstrap interval of values (N,) in `groups` (N,) 0..count-1.

    `LEVEL` of `RESAMPLES` means of values drawn with replacement lie in the interval. For fewer than four values it is
    their range; for few values it is too narrow. NaN is a missing value.

    Returns:
        A row per group: `n` (values present), `mean`, `sd` (with n - 1; NaN if n = 1 or a value is infinite), `low` and
        `high` (NaN if n = 1). All but `n` are NaN for an empty group.
    """
    present = ~np.isnan(values)
    values, groups = values[present], groups[present]
    values = values[np.lexsort((values, groups))]
    sizes = np.bincount(groups, minlength=count)
    starts = np.cumsum(sizes) - sizes
    moments = np.full((4, count), np.nan)
    for n in np.unique(sizes[sizes > 0]):
        same = np.flatnonzero(sizes == n)
        for some in np.array_split(same, math.ceil(len(same) / COLUMNS)):
            moments[:, some] = _moments(values[starts[some] + np.arange(n)[:, None]])
    return pd.DataFrame({"n": sizes, **dict(zip(("mean", "sd", "low", "high"), moments, strict=True))})


def _moments(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """(n, G) -> mean, sd, low, high, each (G,)."""
    n, groups = values.shape
    nothing = np.full(groups, np.nan)
    if n == 1:
        return values[0], nothing, nothing, nothing
    # Infinity minus infinity, and squares of diverged values.
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
