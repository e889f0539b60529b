import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from analysis.statistics.pairs import as_good_as_best
from analysis.statistics.uncertainty import LEVEL, estimates, holm, sign_test, t_test

NAN = math.nan
NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=9)


def estimate(values: Sequence[float], log: bool = False) -> tuple[float, ...]:
    """n, mean, sd, low, high of a single group."""
    (row,) = estimates(np.array(values), np.zeros(len(values), dtype=int), 1, log).itertuples(index=False, name=None)
    return tuple(row)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # The 97.5 % point of Student's t is 12.706 with one degree of freedom, 4.303 with two.
        ([1.0, 0.0], (2, 0.5, math.sqrt(0.5), 0.5 - 12.7062 / 2, 0.5 + 12.7062 / 2)),
        ([1.0, NAN, 2.0, 3.0], (3, 2.0, 1.0, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5)),
        ([3.0], (1, 3.0, NAN, NAN, NAN)),
        ([NAN], (0, NAN, NAN, NAN, NAN)),
        ([1.0, 1.0, 1.0], (3, 1.0, 0.0, 1.0, 1.0)),
        ([1.0, 1.0, math.inf], (3, math.inf, NAN, NAN, NAN)),
    ],
)
def test_by_hand(values: list[float], expected: tuple[float, ...]) -> None:
    assert estimate(values) == pytest.approx(expected, nan_ok=True, rel=1e-5)
    assert len(estimates(np.empty(0), np.empty(0, dtype=int), 0)) == 0  # no group has no row


@settings(max_examples=30)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_properties_of_many_groups_at_once(groups: list[list[float]]) -> None:
    pairs = [(value, number) for number, group in enumerate(groups) for value in group]
    pairs = pairs[::2] + pairs[1::2]  # groups need not stand together
    values, numbers = (np.array(part) for part in zip(*pairs, strict=True))
    rows = estimates(values, numbers, len(groups)).itertuples(index=False, name=None)
    for (n, mean, sd, low, high), group in zip(rows, groups, strict=True):
        assert (n, mean, sd, low, high) == pytest.approx(estimate(group[::-1]), abs=1e-6)
        assert (mean, sd) == pytest.approx((np.mean(group), np.std(group, ddof=1)), abs=1e-6)
        exact = stats.t.interval(LEVEL, n - 1, mean, sd / n**0.5) if sd > 1e-6 else (mean, mean)
        assert (low, high) == pytest.approx(exact, abs=1e-3)


def covered(draw: Callable[..., np.ndarray], n: int, truth: float, log: bool = False, groups: int = 20_000) -> float:
    """The share of simulated groups of n values whose interval has the truth in it."""
    values = draw(size=(groups, n))
    found = estimates(values.ravel(), np.repeat(np.arange(groups), n), groups, log)
    return float(found["low"].le(truth).mul(found["high"].ge(truth)).mean())


@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_intervals_cover_what_they_say(n: int) -> None:
    random = np.random.default_rng(n)
    assert 0.94 <= covered(random.normal, n, 0.0) <= 0.96
    assert 0.94 <= covered(random.lognormal, n, 1.0, log=True) <= 0.96  # perplexities, by their logarithm
    # Skewed as losses of seeds are at worst: a gamma distribution of skewness 1, and the exponential of skewness 2.
    assert covered(lambda size: random.gamma(4, size=size), n, 4.0) >= 0.92
    assert covered(random.exponential, n, 1.0) >= 0.88


def test_13_equal_arms_are_told_apart_in_few_sweeps() -> None:
    """`better` or `worse` than the first arm, or not among the best, somewhere in at most 6 % of 1,000 tables."""
    random = np.random.default_rng(0)
    for n in (4, 9):
        wrong = {"against the first": 0, "bold": 0}
        for _ in range(1000):
            values = random.normal(size=n)[:, None] + random.normal(size=(n, 13))  # of init, and of the arm
            differences = values[:, 1:] - values[:, :1]
            p = holm(t_test(differences.mean(axis=0), differences.std(axis=0, ddof=1), np.full(12, n)))
            wrong["against the first"] += bool((p < 1 - LEVEL).any())
            wrong["bold"] += not as_good_as_best(pd.DataFrame(values), log=False).all()
        assert max(wrong.values()) <= 60, (n, wrong)


def test_p_of_differences() -> None:
    values = np.array([0.1, 0.2, 0.3])
    p = t_test(np.array([values.mean(), 0.2, 0.0, 0.1]), np.array([0.1, 0.1, 0.0, 0.0]), np.array([3, 2, 3, 3]))
    assert p == pytest.approx([stats.ttest_1samp(values, 0).pvalue, NAN, 1.0, 0.0], nan_ok=True)
    assert holm(np.array([0.01, NAN, 0.04, 0.03])) == pytest.approx([0.03, NAN, 0.06, 0.06], nan_ok=True)
    assert holm(np.array([0.9, 0.6])) == pytest.approx([1.0, 1.0])
    assert sign_test(np.array([1.0, 2, 3, 4, 5, 6])) == pytest.approx(2 / 64)  # of 2^6 choices of signs
    assert sign_test(np.array([1.0, -2, 3, -4, 5, -6])) > 0.5


def test_what_cannot_be_told_from_the_best() -> None:
    inits = np.arange(5.0)
    noise = np.array([0.3, -0.2, 0.1, -0.3, 0.1])
    values = pd.DataFrame({"best": inits, "as good": inits + noise + 0.05, "worse": inits + noise + 5})
    values["few"] = [0.0, 9.0, NAN, NAN, NAN]
    assert as_good_as_best(values, log=False).to_dict() == {"best": True, "as good": True, "worse": False, "few": False}
    assert not as_good_as_best(values[:2], log=False).any()
