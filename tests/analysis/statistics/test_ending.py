import math

import pytest

from analysis.statistics.ending import endings
from tests.helpers.made_runs import run, sweep

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("values", "ending"),
    [
        ([9, 5, 4], "complete"),
        ([9, 4, 5], "complete"),  # overfitted, but better than before training
        ([9, 4, 10], "diverged"),  # worse than the first
        ([9, 4, NAN], "diverged"),
        ([9, 4, INF], "diverged"),
        ([9, 9, 9], "diverged"),  # never better than before training
        ([NAN, 5, 4], "complete"),
        ([9, 4], "unfinished"),
        ([9], "unfinished"),  # nothing is known yet
        ([9, 10], "diverged"),
    ],
)
def test_endings(values: list[float], ending: str) -> None:
    (row,) = endings(sweep(run("a", {"valid_loss": values}, epochs=2.0))).to_dict("records")
    assert (row["ending"], row["reached"], row["epochs"], row["counts"]) == (ending, len(values) - 1, 2.0, True)


def test_training_that_was_not_finite_has_diverged() -> None:
    runs = run("a", {"valid_loss": [9, 5], "diverged": [1.0]}, epochs=2.0), run("b", {"valid_loss": [9, 5]}, epochs=2.0)
    assert endings(sweep(*runs))["ending"].tolist() == ["diverged", "unfinished"]


def test_a_budget_is_of_epochs_or_seconds_or_patience_or_unknown() -> None:
    values = {"valid_loss": [9, 5, 4]}  # two epochs, four seconds
    for options, ending in (
        ({"epochs": 3.0}, "unfinished"),
        ({"epochs": 3.0, "seconds": 4.0}, "complete"),
        ({"epochs": 3.0, "seconds": 5.0}, "unfinished"),
        ({"seconds": 5.0}, "unfinished"),
        ({}, "complete"),
        ({"epochs": 3.0, "patience": 1.0}, "unfinished"),
        ({"epochs": 3.0, "patience": 1.0, "ended_by": "patience"}, "complete"),
    ):
        assert endings(sweep(run("a", values, **options)))["ending"].tolist() == [ending]


def test_the_best_kind_of_ending_in_a_setting_counts() -> None:
    kinds = {"complete": [9, 5, 4], "unfinished": [9, 5], "diverged": [9, 4, 10]}

    def counting(*names: str) -> list[str]:
        runs = (run(f"{n}", {"valid_loss": kinds[name]}, epochs=2.0, init=n) for n, name in enumerate(names))
        found = endings(sweep(*runs))
        assert found["ending"].tolist() == [*names]
        return list(found.loc[found["counts"], "ending"])

    assert counting("complete", "diverged", "unfinished", "complete") == ["complete"] * 2
    assert counting("diverged", "unfinished") == ["unfinished"]
    assert counting("diverged", "diverged") == ["diverged"] * 2
