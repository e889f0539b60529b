import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from analysis import load
from analysis.statistics.targets import default_target, rounded_up, summarize_targets, time_to_target
from tests.helpers.made_runs import run, sweep as made

PPL = "valid_ppl"


def runs(*each: tuple[int, int, list[float]], **options: float) -> pd.DataFrame:
    """Runs of K, init, and the validation by epoch."""
    made_runs = (run(f"{n}", {PPL: v}, truncation__K=K, init=i, **options) for n, (K, i, v) in enumerate(each))
    return made(*made_runs)


def test_the_first_evaluation_at_the_target_by_every_clock(sweep: Path) -> None:
    times = time_to_target(load(sweep), PPL, 1.4).set_index("experiment_id")
    # 1.5 1.2 1.3, 1.9 1.6 1.4 and 1.4 1.1 1.1: at most the target is reached, and later values do not count.
    assert times["epoch"].tolist() == [2, 3, 1]
    assert times["adaptive_epoch"].tolist() == [2.5, 3.5, 1.5]
    assert times["updates"].tolist() == [40, 60, 20]
    assert times["train_seconds"].tolist() == [0.5, 0.5, 0.5]
    rows = summarize_targets(load(sweep), PPL, 1.4)
    assert rows["policy"].tolist() == ["adaptive delta=0.9", "fixed K=5"]
    assert rows[["runs", "reached", "epoch_mean", "epoch_median", "updates_mean"]].to_numpy().tolist() == [
        [1, 1, 1, 1, 20],
        [2, 2, 2.5, 2.5, 50],
    ]
    assert rows["updates_sd"].tolist() == pytest.approx([math.nan, 20 / 2**0.5], nan_ok=True)


def test_runs_that_never_reach_it_are_nan_and_diverged_values_reach_nothing() -> None:
    other = run("z", {"train_loss": [1.0]})  # does not log it
    frame = made(runs((5, 0, [-math.inf, -4.0, -5.0]), (5, 1, [-4.0, -math.inf]), (5, 2, [math.nan])), other)
    times = time_to_target(frame, PPL, -4.5)
    assert times["experiment_id"].tolist() == ["0", "1", "2"]
    assert times["epoch"].tolist() == pytest.approx([2, math.nan, math.nan], nan_ok=True)


def test_the_default_is_what_all_runs_of_two_policies_reach() -> None:
    values = {5: (1.1, 1.3), 10: (1.2, 1.25), 2: (1.7, 1.8)}
    frame = runs(*((K, init, [9.0, value]) for K, pair in values.items() for init, value in enumerate(pair)))
    worse = runs((5, 0, [9, 5]), (5, 1, [9, 5]), lr=3.0)
    frame = made(frame, worse.assign(experiment_id="w" + worse["experiment_id"]))
    assert default_target(frame, PPL) == 1.3
    assert summarize_targets(frame, PPL, 1.3)["reached"].tolist() == [2, 2, 0, 0]


def test_the_default_of_one_policy_and_of_none_and_settings_that_always_reach_it_come_first() -> None:
    assert default_target(runs((5, 0, [1.23456])), PPL) == 1.235
    assert default_target(runs((5, 0, [1.23456]), (10, 0, [math.nan])), PPL) == math.inf
    assert default_target(runs((5, 0, [1.23456])), "valid_nll") == math.inf
    rows = summarize_targets(runs((5, 0, [2, 1]), (5, 1, [2, 1]), (10, 0, [1, 1]), (10, 1, [2, 2])), PPL, 1.5)
    assert rows[["policy", "reached"]].to_numpy().tolist() == [["fixed K=5", 2], ["fixed K=10", 1]]


@given(st.floats(-1e6, 1e6))
def test_rounding_never_makes_a_target_harder(value: float) -> None:
    rounded = rounded_up(value)
    assert value <= rounded <= value + abs(value) * 2e-3
    assert float(f"{rounded:.3e}") == rounded
