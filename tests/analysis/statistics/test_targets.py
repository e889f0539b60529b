from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from analysis import load
from analysis.statistics.targets import default_target, rounded_up, summarize_targets, time_to_target

WriteRun = Callable[..., Path]


def test_the_first_evaluation_at_the_target_by_every_clock(sweep: Path) -> None:
    times = time_to_target(load(sweep), "valid_ppl", 1.4).set_index("experiment_id")
    # 1.5 1.2 1.3, 1.9 1.6 1.4 and 1.4 1.1 1.1: at most the target is reached, and later values do not count.
    assert times["epoch"].tolist() == [2, 3, 1]
    assert times["adaptive_epoch"].tolist() == [2.5, 3.5, 1.5]
    assert times["updates"].tolist() == [40, 60, 20]
    assert times["train_seconds"].tolist() == [0.5, 0.5, 0.5]


def test_never_is_nan(sweep: Path, write_run: WriteRun) -> None:
    write_run("f", {"valid_ppl": [math.nan]}, init=2)
    write_run("g", {"train_loss": [1.0]}, init=3)  # does not log it
    times = time_to_target(load(sweep), "valid_ppl", 1.2)
    assert times["experiment_id"].tolist() == ["000000000001", "1e5000000000", "abcdefabcdef", "f"]
    assert times["epoch"].isna().tolist() == [False, True, False, True]
    assert time_to_target(load(sweep), "valid_ppl", 0.5)["updates"].isna().all()


def test_what_has_diverged_reaches_nothing(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_nll": [-math.inf, -4.0, -5.0]})
    write_run("b", {"valid_nll": [-4.0, -math.inf]}, init=1)
    assert time_to_target(load(outputs), "valid_nll", -4.5)["epoch"].tolist() == pytest.approx(
        [3, math.nan], nan_ok=True
    )


def test_summary_by_hand(sweep: Path) -> None:
    rows = summarize_targets(load(sweep), "valid_ppl", 1.4)
    assert rows["policy"].tolist() == ["adaptive delta=0.9", "fixed K=5"]
    assert rows[["runs", "reached", "epoch_mean", "epoch_median", "updates_mean"]].to_numpy().tolist() == [
        [1, 1, 1, 1, 20],
        [2, 2, 2.5, 2.5, 50],
    ]
    assert rows["updates_sd"].tolist() == pytest.approx([math.nan, 20 / 2**0.5], nan_ok=True)


def test_who_always_reaches_it_stands_before_who_is_sooner(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [2.0, 1.0]}, truncation__K=5)
    write_run("b", {"valid_ppl": [2.0, 1.0]}, truncation__K=5, init=1)
    write_run("c", {"valid_ppl": [1.0, 1.0]}, truncation__K=10)
    write_run("d", {"valid_ppl": [2.0, 2.0]}, truncation__K=10, init=1)
    rows = summarize_targets(load(outputs), "valid_ppl", 1.5)
    assert rows[["policy", "reached"]].to_numpy().tolist() == [["fixed K=5", 2], ["fixed K=10", 1]]


def test_the_default_is_what_all_runs_of_two_policies_reach(outputs: Path, write_run: WriteRun) -> None:
    for init, (five, ten, two) in enumerate([(1.1, 1.2, 1.7), (1.3, 1.25, 1.8)]):
        write_run(f"a{init}", {"valid_ppl": [9.0, five]}, init=init, truncation__K=5)
        write_run(f"b{init}", {"valid_ppl": [9.0, ten]}, init=init, truncation__K=10)
        write_run(f"c{init}", {"valid_ppl": [9.0, two]}, init=init, truncation__K=2)
        write_run(f"d{init}", {"valid_ppl": [9.0, 5.0]}, init=init, truncation__K=5, lr=3.0)  # a worse lr of it
    assert default_target(load(outputs), "valid_ppl") == 1.3
    assert summarize_targets(load(outputs), "valid_ppl", 1.3)["reached"].tolist() == [2, 2, 0, 0]


def test_the_default_of_one_policy_and_of_none(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [1.23456]})
    assert default_target(load(outputs), "valid_ppl") == 1.235
    write_run("b", {"valid_ppl": [math.nan]}, truncation__K=10)
    assert default_target(load(outputs), "valid_ppl") == math.inf
    assert default_target(load(outputs), "valid_nll") == math.inf


@given(st.floats(-1e6, 1e6))
def test_rounding_never_makes_a_target_harder(value: float) -> None:
    rounded = rounded_up(value)
    assert value <= rounded <= value + abs(value) * 2e-3
    assert float(f"{rounded:.3e}") == rounded
