from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from analysis.statistics.uncertainty import LEVEL, estimate, estimates

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=9)


def test_two_values_by_hand() -> None:
    # Resampled means are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4: the 2.5 % at each end are the values themselves.
    assert estimate([1.0, 0.0]) == (2, 0.5, pytest.approx(math.sqrt(0.5)), 0.0, 1.0)


def test_the_interval_is_that_of_all_resamples() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    means = sorted(np.mean(draw) for draw in itertools.product(values, repeat=5))  # 3125, all equally likely
    exact = [means[round(share * (len(means) - 1))] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    result = estimate(values)
    assert [result.low, result.high] == pytest.approx(exact, abs=0.61)  # a draw more or less of the rarest ones
    assert result.mean == 6.2


def test_one_value_has_no_spread() -> None:
    n, mean, *rest = estimate([3.0])
    assert (n, mean) == (1, 3.0)
    assert all(map(math.isnan, rest))


def test_nothing() -> None:
    n, *rest = estimate([math.nan])
    assert n == 0
    assert all(map(math.isnan, rest))
    assert len(estimates(np.empty(0), np.empty(0, dtype=int), 0)) == 0


def test_nan_is_not_there_and_infinity_is() -> None:
    assert estimate([1.0, math.nan, 3.0]) == estimate([1.0, 3.0])
    result = estimate([1.0, 1.0, 1.0, 1.0, math.inf])
    assert (result.mean, result.low, result.high) == (math.inf, 1.0, math.inf)
    assert math.isnan(result.sd)


@given(NUMBERS)
def test_properties(values: list[float]) -> None:
    result = estimate(values)
    assert result == estimate(values[::-1])  # no matter in which order
    assert result.mean == pytest.approx(np.mean(values))
    assert result.sd == pytest.approx(np.std(values, ddof=1))
    tiny = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - tiny <= result.low <= result.mean + tiny
    assert result.mean - tiny <= result.high <= max(values) + tiny


@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_many_groups_at_once_are_as_one_by_one(groups: list[list[float]]) -> None:
    pairs = [(value, number) for number, group in enumerate(groups) for value in group]
    pairs = pairs[::2] + pairs[1::2]  # groups need not stand together
    values, numbers = (np.array(part) for part in zip(*pairs, strict=True))
    rows = estimates(values, numbers, len(groups)).to_numpy()
    for row, group in zip(rows, groups, strict=True):
        assert list(row) == pytest.approx(list(estimate(group)))
