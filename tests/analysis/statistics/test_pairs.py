import math
from typing import Any

import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.statistics.pairs import paired_differences
from tests.helpers.made_runs import run, sweep

TEN = {"truncation__K": 10}
ADAPTIVE = {"truncation": "adaptive", "truncation__K": None, "truncation__delta": 0.9, "probe__window": 40}


def runs(*each: tuple[float, dict[str, Any]]) -> pd.DataFrame:
    """Runs of one validation value and some options."""
    return sweep(*(run(f"{n}", {"valid_ppl": [value]}, **options) for n, (value, options) in enumerate(each)))


def test_differences_by_hand_from_the_best_policy_or_another() -> None:
    """K=10 is better than K=5 at init 0, 1, 2 by 0.1, 0.2, 0.3, in test by 1, 2, 3."""
    frame = sweep(
        *(
            run(f"{K}{init}", {"valid_ppl": [1.5 + init - by / 10], "test_ppl": [8.0 - by]}, init=init, truncation__K=K)
            for init in range(3)
            for K, by in ((5, 0), (10, init + 1))
        )
    )
    (row,) = paired_differences(frame).to_dict("records")
    assert (row["policy"], row["reference"], row["metric"], row["pairs"]) == ("fixed K=5", "fixed K=10", "valid_ppl", 3)
    # The sd of the differences, far less than that of the runs.
    assert [row[f"valid_{part}"] for part in ("mean", "sd", "low", "high")] == pytest.approx([0.2, 0.1, 0.1, 0.3])
    assert [row[f"test_{part}"] for part in ("mean", "sd", "low", "high")] == pytest.approx([2, 1, 1, 3])
    (row,) = paired_differences(frame, reference="fixed K=5").to_dict("records")
    assert (row["policy"], row["reference"]) == ("fixed K=10", "fixed K=5")
    assert row["valid_mean"] == pytest.approx(-0.2)
    with pytest.raises(AnalysisError, match=r"reference \(=fixed K=6\) must be one of fixed K=10, fixed K=5"):
        paired_differences(frame, reference="fixed K=6")


@pytest.mark.parametrize(
    ("each", "reference", "expected"),
    [
        (
            [
                (1.5, {"lr": 1.0}),
                (1.0, {"lr": 1.0, **TEN}),
                (1.7, {"lr": 3.0}),
                (1.1, {"lr": 3.0, **TEN, "init": 1}),  # the init differs
                (1.8, {"lr": 9.0, "init": 1}),  # the lr differs
                (math.inf, {"lr": 3.0, **TEN}),  # diverged
            ],
            None,
            [["fixed K=5", 1, 0.5]],
        ),
        (
            [(1.2, {}), (1.4, {"init": 1}), (1.1, ADAPTIVE), (1.2, ADAPTIVE | {"init": 1})],
            None,
            [["fixed K=5", 2, 0.15]],
        ),
        ([(1.0, {"epochs": 3}), (2.0, {"epochs": 4}), (1.1, TEN)], "fixed K=10", [["fixed K=5", 1, 0.4]]),
        ([(1.0, {})], None, []),
        ([(1.0, {}), (1.0, {**TEN, "init": 1})], None, []),
    ],
    ids=["what differs", "options of one policy only", "no setting differs: averaged", "one policy", "no common init"],
)
def test_runs_of_equal_init_and_settings_pair(
    each: list[tuple[float, dict[str, Any]]], reference: str | None, expected: list[list[Any]]
) -> None:
    rows = paired_differences(runs(*each), reference=reference)
    found = rows[["policy", "pairs", "valid_mean"]].round(9).to_numpy().tolist()
    assert found == expected
    assert "test_high" in rows
