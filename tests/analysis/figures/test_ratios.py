from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from analysis.figures import NoDataError, lag_ratios
from analysis.figures.ratios import successive_ratios
from tests.helpers.made_runs import positions, run, sweep


def test_ratios_never_reach_from_one_profile_into_another() -> None:
    ratios = successive_ratios(positions("a", lags=4, evaluations=2))
    assert ratios["ratio"].to_numpy() == pytest.approx(0.5)
    assert ratios["lag"].tolist() == [1, 1, 2, 3] * 2  # two lags of position 7, four of position 9


def test_a_lag_that_is_missing_or_without_signal_has_no_ratio() -> None:
    table = positions("a", lags=6, evaluations=1)
    table = table[table["position"] == 9]
    assert successive_ratios(table[table["lag"] != 3])["lag"].tolist() == [1, 4, 5]
    assert successive_ratios(table.assign(phi=table["phi"].where(table["lag"] != 3, 0.0)))["lag"].tolist() == [1, 4, 5]
    assert successive_ratios(table.assign(phi=table["phi"].where(table["lag"] < 5, np.nan)))["lag"].tolist() == [
        1,
        2,
        3,
    ]


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 2), st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(beta: float, seed: int) -> None:
    shuffled = positions("a", beta=beta).sample(frac=1, random_state=seed)
    assert successive_ratios(shuffled)["ratio"].to_numpy() == pytest.approx(beta)


def test_boxes_by_lag_with_the_fitted_decay_after_training_began() -> None:
    frame = sweep(run("a", {"valid_ppl": [2, 2, 2], "log_beta": np.log([0.1, 0.5, 0.5])}))
    (axes,) = lag_ratios(positions("a"), frame, "").axes
    medians = [line.get_ydata()[0] for line in axes.get_lines() if line.get_linewidth() == 1.6]
    assert medians == pytest.approx([0.5] * 5)
    levels = [line.get_ydata()[0] for line in axes.get_lines() if list(line.get_xdata()) == [0, 1]]
    assert levels == pytest.approx([1, 0.5])
    assert axes.get_xlabel() == "lag k (steps)"


def test_many_lags_are_taken_together() -> None:
    frame = sweep(run("a", {"valid_ppl": [2, 2, 2]}))
    (axes,) = lag_ratios(positions("a", lags=62, beta=0.9), frame, "").axes
    assert axes.get_xlabel() == "lag k (steps), in bins of 5"
    assert len(axes.patches) == 13  # ratios of lags 1..61


def test_one_lag_has_no_ratio() -> None:
    table: pd.DataFrame = positions("a")
    with pytest.raises(NoDataError):
        lag_ratios(table[table["lag"] == 1], sweep(run("a", {"valid_ppl": [2]})), "")
