from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from atbptt.truncation.policy import next_due


@pytest.mark.parametrize("epoch_steps", [60, 100, 500, 1000, 4000])
@pytest.mark.parametrize("every", ["0.05", "0.1", "0.2", "0.4", "1.1", "1.25", "0.3"])
def test_decimal_fractions_fall_where_they_do_by_hand(every: str, epoch_steps: int) -> None:
    step, found = 0, []
    while len(found) < 40:
        step = next_due(step, float(every), epoch_steps)
        found.append(step)
    exact = [n * Fraction(every) * epoch_steps for n in range(1, 41)]
    assert found == [-((-e.numerator) // e.denominator) for e in exact]


@given(st.integers(0, 10**6), st.floats(0.001, 10), st.integers(2, 5000))
def test_something_is_due_after_every_step_and_within_an_interval(step: int, every: float, T: int) -> None:
    due = next_due(step, every, T)
    assert step < due <= step + max(every * T, 1) + 1


def test_a_schedule_is_never_finer_than_a_step() -> None:
    assert next_due(7, 1e-300, 100) == 8
