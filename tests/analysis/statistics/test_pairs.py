from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import AnalysisError, load
from analysis.statistics.pairs import paired_differences

WriteRun = Callable[..., Path]
COLUMNS = ["policy", "pairs", "valid_mean"]


@pytest.fixture
def two_policies(outputs: Path, write_run: WriteRun) -> Path:
    """K=5 and K=10 at init 0, 1, 2; K=10 is better by 0.1, 0.2, 0.3, in test by 1, 2, 3."""
    for init in range(3):
        write_run(f"a{init}", {"valid_ppl": [1.5 + init], "test_ppl": [8.0]}, init=init, truncation__K=5)
        better = {"valid_ppl": [1.5 + init - 0.1 * (init + 1)], "test_ppl": [8.0 - (init + 1)]}
        write_run(f"b{init}", better, init=init, truncation__K=10)
    return outputs


def test_differences_by_hand(two_policies: Path) -> None:
    (row,) = paired_differences(load(two_policies)).to_dict("records")
    assert (row["policy"], row["reference"], row["metric"], row["pairs"]) == ("fixed K=5", "fixed K=10", "valid_ppl", 3)
    # The sd of the differences, far less than that of the runs.
    assert (row["valid_mean"], row["valid_sd"]) == pytest.approx((0.2, 0.1))
    assert (row["valid_low"], row["valid_high"]) == pytest.approx((0.1, 0.3))
    assert (row["test_mean"], row["test_sd"], row["test_low"], row["test_high"]) == pytest.approx((2, 1, 1, 3))


def test_another_reference(two_policies: Path) -> None:
    (row,) = paired_differences(load(two_policies), reference="fixed K=5").to_dict("records")
    assert (row["policy"], row["reference"]) == ("fixed K=10", "fixed K=5")
    assert row["valid_mean"] == pytest.approx(-0.2)
    with pytest.raises(AnalysisError, match=r"reference \(=fixed K=6\) must be one of fixed K=10, fixed K=5"):
        paired_differences(load(two_policies), reference="fixed K=6")


def test_only_equal_init_and_equal_other_options_pair(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [1.5]}, init=0, lr=1.0, truncation__K=5)
    write_run("b", {"valid_ppl": [1.0]}, init=0, lr=1.0, truncation__K=10)
    write_run("c", {"valid_ppl": [1.7]}, init=0, lr=3.0, truncation__K=5)
    write_run("d", {"valid_ppl": [1.1]}, init=1, lr=3.0, truncation__K=10)  # the init differs
    write_run("e", {"valid_ppl": [1.8]}, init=1, lr=9.0, truncation__K=5)  # the lr differs
    write_run("f", {"valid_ppl": [math.inf]}, init=0, lr=3.0, truncation__K=10)  # diverged
    rows = paired_differences(load(outputs))
    assert rows[["policy", "lr", "pairs"]].to_numpy().tolist() == [["fixed K=5", 1, 1]]
    assert rows["valid_mean"].tolist() == [0.5]
    assert rows["valid_sd"].isna().all()


def test_options_of_one_policy_only_do_not_hinder(outputs: Path, write_run: WriteRun) -> None:
    adaptive = {"truncation": "adaptive", "truncation__K": None, "truncation__delta": 0.9, "probe__window": 40}
    for init, (fixed, other) in enumerate([(1.2, 1.1), (1.4, 1.2)]):
        write_run(f"a{init}", {"valid_ppl": [fixed]}, init=init)
        write_run(f"b{init}", {"valid_ppl": [other]}, init=init, **adaptive)
    rows = paired_differences(load(outputs))
    assert rows[COLUMNS].to_numpy().tolist() == [["fixed K=5", 2, pytest.approx(0.15)]]


def test_runs_that_differ_in_nothing_that_tells_settings_apart_are_averaged(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [1.0]}, truncation__K=5, epochs=3.0)
    write_run("b", {"valid_ppl": [2.0]}, truncation__K=5, epochs=4.0)
    write_run("c", {"valid_ppl": [1.1]}, truncation__K=10)
    rows = paired_differences(load(outputs), reference="fixed K=10")
    assert rows[COLUMNS].to_numpy().tolist() == [["fixed K=5", 1, pytest.approx(0.4)]]


def test_one_policy_or_no_partner_is_empty(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [1.0]})
    assert paired_differences(load(outputs)).empty
    write_run("b", {"valid_ppl": [1.0]}, truncation__K=10, init=1)
    assert paired_differences(load(outputs)).empty
    assert "test_high" in paired_differences(load(outputs))
