import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from analysis.statistics.uncertainty import LEVEL, estimates

NAN = math.nan
NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=9)


def estimate(values: Sequence[float]) -> tuple[float, ...]:
    """n, mean, sd, low, high of a single group."""
    (row,) = estimates(np.array(values), np.zeros(len(values), dtype=int), 1).itertuples(index=False, name=None)
    return tuple(row)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Resampled means are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4: 2.5 % at each end are the values themselves.
        ([1.0, 0.0], (2, 0.5, math.sqrt(0.5), 0.0, 1.0)),
        ([1.0, NAN, 3.0], (2, 2.0, math.sqrt(2), 1.0, 3.0)),
        ([3.0], (1, 3.0, NAN, NAN, NAN)),
        ([NAN], (0, NAN, NAN, NAN, NAN)),
        ([1.0, 1.0, 1.0, 1.0, math.inf], (5, math.inf, NAN, 1.0, math.inf)),
    ],
)
def test_by_hand(values: list[float], expected: tuple[float, ...]) -> None:
    assert estimate(values) == pytest.approx(expected, nan_ok=True)
    assert len(estimates(np.empty(0), np.empty(0, dtype=int), 0)) == 0  # no group has no row


def test_the_interval_is_that_of_all_resamples() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    means = sorted(np.mean(draw) for draw in itertools.product(values, repeat=5))  # 3125, all equally likely
    exact = [means[round(share * (len(means) - 1))] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    assert estimate(values)[3:] == pytest.approx(exact, abs=0.61)  # a draw more or less of the rarest ones


@settings(max_examples=30)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_properties_of_many_groups_at_once(groups: list[list[float]]) -> None:
    pairs = [(value, number) for number, group in enumerate(groups) for value in group]
    pairs = pairs[::2] + pairs[1::2]  # groups need not stand together
    values, numbers = (np.array(part) for part in zip(*pairs, strict=True))
    rows = estimates(values, numbers, len(groups)).itertuples(index=False, name=None)
    for (n, mean, sd, low, high), group in zip(rows, groups, strict=True):
        assert (n, mean, sd, low, high) == pytest.approx(estimate(group[::-1]))
        assert mean == pytest.approx(np.mean(group))
        assert sd == pytest.approx(np.std(group, ddof=1))
        tiny = 1e-9 * (1 + max(map(abs, group)))
        assert min(group) - tiny <= low <= mean + tiny
        assert mean - tiny <= high <= max(group) + tiny
