"""Mean, spread and interval of a few values, as those of a setting over its initialisations; tests of differences."""

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

LEVEL = 0.95  # of the intervals, and 1 - LEVEL of the tests
LEAST_RUNS = 3  # for an interval or a verdict: two values hardly have a spread
SIGNS_FROM = 6  # pairs: with fewer, no choice of signs is as rare as 1 - LEVEL
SIGN_DRAWS = 9999  # choices of signs drawn where there are more


def estimates(values: np.ndarray, groups: np.ndarray, count: int, log: bool = False) -> pd.DataFrame:
    """Mean, standard deviation and Student's t interval of values (N,) in `groups` (N,) 0..count-1; NaN is missing.

    The interval is that of the mean of values that are about normal. With `log` the logarithms are, as of perplexities:
    then it is the interval of the geometric mean.

    Returns:
        A row per group: `n` (values present), `mean`, `sd` (with n - 1; NaN if n = 1 or a value is infinite), `low` and
        `high` (NaN where `sd` is). All but `n` are NaN for an empty group.
    """
    present = ~np.isnan(values)
    values, groups = values[present], groups[present]
    n, mean, sd = _moments(values, groups, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        _, center, spread = _moments(np.log(values), groups, count) if log else (n, mean, sd)
        half = stdtrit(n - 1, (1 + LEVEL) / 2) * spread / np.sqrt(n)
        ends = center - half, center + half
    low, high = np.exp(ends) if log else ends
    return pd.DataFrame({"n": n, "mean": mean, "sd": sd, "low": low, "high": high})


def _moments(values: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = np.bincount(groups, minlength=count)
    # Infinity minus infinity, and squares of diverged values.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean = np.bincount(groups, values, count) / n
        squares = np.bincount(groups, (values - mean[groups]) ** 2, count)
        sd = np.where(np.isfinite(squares) & (n > 1), np.sqrt(squares / (n - 1)), np.nan)
    return n, mean, sd


def t_test(mean: np.ndarray, sd: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Two-sided p of Student's t test that differences have the mean 0; NaN for fewer than `LEAST_RUNS`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) * np.sqrt(n) / sd
    p = 2 * stdtr(np.maximum(n - 1, 1), -np.where(mean == 0, 0.0, t))  # equal pairs have neither mean nor spread
    return np.where(n < LEAST_RUNS, np.nan, p)


def holm(p: np.ndarray) -> np.ndarray:
    """p corrected so that all tests together are wrong with probability 1 - LEVEL (Holm, 1979); NaN is no test."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN comes last
    steps = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1)
    return corrected


def sign_test(differences: np.ndarray) -> float:
    """Two-sided p of the mean under random signs of the differences (n,): no assumption but symmetry about 0."""
    from scipy.stats import permutation_test  # takes seconds to import

    def mean(x: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x, axis=axis)

    options = {"permutation_type": "samples", "n_resamples": SIGN_DRAWS, "vectorized": True}
    return float(permutation_test((differences,), mean, random_state=np.random.default_rng(0), **options).pvalue)
