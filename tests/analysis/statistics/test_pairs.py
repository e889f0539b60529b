import math
from collections.abc import Iterator
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


def test_differences_by_hand_from_a_reference_named_beforehand() -> None:
    """K=10 is better than K=5 at init 0, 1, 2 by 0.1, 0.2, 0.3, in test by 1, 2, 3."""
    frame = sweep(
        *(
            run(
                f"{K}{init}",
                {"valid_loss": [1.5 + init - by / 10], "test_loss": [8.0 - by]},
                init=init,
                truncation__K=K,
            )
            for init in range(3)
            for K, by in ((5, 0), (10, init + 1))
        )
    )
    (row,) = paired_differences(frame, against="fixed K=10").to_dict("records")
    assert (row["policy"], row["against"], row["metric"], row["pairs"]) == ("fixed K=5", "fixed K=10", "valid_loss", 3)
    # The sd of the differences, far less than that of the runs.
    assert [row[f"valid_{part}"] for part in ("mean", "sd")] == pytest.approx([0.2, 0.1])
    assert [row[f"test_{part}"] for part in ("mean", "sd", "low", "high")] == pytest.approx(
        [2, 1, -0.484, 4.484], abs=1e-3
    )
    assert (row["p"], row["verdict"]) == (pytest.approx(0.0742, abs=1e-4), "no difference to tell")
    (row,) = paired_differences(frame).to_dict("records")  # by default the first by name
    assert (row["policy"], row["against"], row["valid_mean"]) == ("fixed K=10", "fixed K=5", pytest.approx(-0.2))
    with pytest.raises(AnalysisError, match=r"against \(=fixed K=6\) must be one of fixed K=5, fixed K=10"):
        paired_differences(frame, against="fixed K=6")


def arm(K: int, *values: float, metric: str = "valid_ppl", **options: Any) -> Iterator[pd.DataFrame]:
    """A run of each init by its best validation."""
    for init, value in enumerate(values):
        yield run(f"{K}-{init}-{options}", {metric: [9.0, value]}, truncation__K=K, init=init, **options)


def test_verdicts() -> None:
    """Perplexities that differ by a factor: the difference is that of the logarithms."""
    base = [2.0, 4.0, 3.0, 6.0, 5.0, 2.5, 3.5]
    noise = [1.01, 0.99, 1.02, 0.98, 1.01, 1.0, 0.99]
    factors = {10: 0.5, 20: 1.3, 30: 1.0}
    arms = [*arm(5, *base), *arm(40, *base[:2])]
    for K, factor in factors.items():
        arms += arm(K, *(factor * value * wrong for value, wrong in zip(base, noise, strict=True)))
    rows = paired_differences(sweep(*arms)).set_index("policy")
    assert rows["verdict"].to_dict() == {
        "fixed K=10": "better",
        "fixed K=20": "worse",
        "fixed K=30": "no difference to tell",
        "fixed K=40": "too few runs",
    }
    assert rows["valid_mean"]["fixed K=10"] == pytest.approx(math.log(0.5), abs=0.01)
    assert rows["p_signs"]["fixed K=10"] == pytest.approx(2 / 2**7)
    assert rows[["p", "p_signs"]].loc["fixed K=40"].isna().all()


def test_no_verdict_on_what_nobody_measured() -> None:
    """Runs of unknown init are no pairs; a policy without test values is not compared in test."""
    arms = [*arm(5, 2, 4, 3), *arm(10, 3, 5, 4)]
    assert paired_differences(sweep(*arms).drop(columns="init")).empty
    assert paired_differences(sweep(*arms).assign(init=None)).empty
    tested = [*arm(5, 2, 4, 3, metric="test_ppl"), *arm(20, 3, 5, 4), *arm(20, 3, 5, 4, metric="test_ppl")]
    rows = paired_differences(sweep(*arms, *tested), against="fixed K=5").set_index("policy")
    assert rows["verdict"].to_dict() == {"fixed K=20": "worse", "fixed K=10": "too few runs"}


def test_each_policy_stands_at_its_own_learning_rate() -> None:
    """lr=1 is best for K=5, and lr=3 for K=10; pairs have different ones."""
    frame = sweep(
        *arm(5, 2, 2, lr=1.0), *arm(5, 3, 3, lr=3.0), *arm(10, 4, 4, lr=1.0), *arm(10, 1, 1, lr=3.0)
    )  # fmt: skip
    (row,) = paired_differences(frame).to_dict("records")
    assert (row["lr"], row["pairs"], row["valid_mean"]) == (3.0, 2, pytest.approx(math.log(0.5)))


@pytest.mark.parametrize(
    ("each", "pairs"),
    [
        ([(1.2, {}), (1.4, {"init": 1}), (1.1, ADAPTIVE), (1.2, ADAPTIVE | {"init": 1})], [2]),
        ([(1.0, {"seed": 0}), (1.1, {"seed": 0, **TEN}), (2.0, {"seed": 1}), (2.1, {"seed": 1, **TEN})], [1, 1]),
        ([(1.0, {"epochs": 0.5}), (1.1, {**TEN, "epochs": 2.0})], []),  # unfinished
        ([(1.0, {"dataset__data_hash": "a"}), (1.1, {**TEN, "dataset__data_hash": "b"})], []),
        ([(1.0, {})], []),
        ([(1.0, {}), (1.0, {**TEN, "init": 1})], []),
    ],
    ids=["options of one policy only", "conditions", "unfinished", "other data", "one policy", "no common init"],
)
def test_runs_of_equal_init_and_conditions_pair(each: list[tuple[float, dict[str, Any]]], pairs: list[int]) -> None:
    rows = paired_differences(runs(*each))
    assert rows["pairs"].tolist() == pairs
    assert "test_high" in rows
