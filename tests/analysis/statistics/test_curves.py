import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from analysis import AnalysisError
from analysis.statistics.curves import AXES, compare, cumulative_best, mean_curve
from tests.helpers.made_runs import fixed_and_adaptive, run, sweep

Points = tuple[list[float], list[float]]


def frame(*runs: Points, updates_per_epoch: Sequence[int] = (10, 10, 10)) -> pd.DataFrame:
    """Runs of (epochs, values) of the metric K."""
    rows = [
        (str(number), int(100 * epoch), epoch, int(epoch * updates_per_epoch[number]), "K", 0, value)
        for number, run in enumerate(runs)
        for epoch, value in zip(*run, strict=True)
    ]
    names = ["experiment_id", "step", "epoch", "updates", "metric", "replicate", "value"]
    return pd.DataFrame(rows, columns=names)


def curve(*runs: Points) -> pd.DataFrame:
    return mean_curve(frame(*runs), "K")


def test_runs_that_are_evaluated_elsewhere_are_interpolated() -> None:
    mean = curve(([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), ([1.2, 2.2, 3.2], [2.4, 4.4, 6.4]))
    # The second run is 2 * epoch; at epoch 1 it is within half an interval of its first evaluation.
    assert mean["epoch"].tolist() == [1, 2, 3]
    assert mean["mean"].tolist() == pytest.approx([(1 + 2.4) / 2, (2 + 4) / 2, (3 + 6) / 2])
    assert mean["sd"].tolist() == pytest.approx([1.4 / 2**0.5, 2 / 2**0.5, 3 / 2**0.5])
    assert mean["lowest"].tolist() == pytest.approx([1, 2, 3])
    assert mean["highest"].tolist() == pytest.approx([2.4, 4, 6])
    assert (mean["high"] - mean["mean"]).tolist() == pytest.approx((12.7062 * mean["sd"] / 2**0.5).tolist())  # Student


def test_a_run_that_ended_is_not_prolonged() -> None:
    mean = curve(([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]), ([1.0], [3.0]))
    assert mean["runs"].tolist() == [2, 1, 1]
    assert mean["mean"].tolist() == [2, 1, 1]
    assert mean["sd"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_run_stays_in_the_mean(bad: float) -> None:
    mean = curve(([1.0, 2.0], [1.0, 1.0]), ([1.0, 2.0], [1.0, bad]))
    assert mean["mean"].tolist() == [1, math.inf]
    assert mean["sd"].isna().tolist() == [False, True]


def test_of_a_metric_that_probes_measure_the_first_probe_counts_and_one_not_logged_is_empty() -> None:
    first = frame(([1.0, 2.0], [9.0, 7.0]))
    rows = pd.concat([first, first.assign(replicate=1, value=1.0)])
    assert mean_curve(rows, "K")["mean"].tolist() == [9, 7]
    for axis in AXES:
        empty = mean_curve(fixed_and_adaptive(), "nothing", axis)
        assert empty.empty
        assert list(empty.columns) == [axis, "mean", "sd", "low", "high", "lowest", "highest", "runs"]
    assert compare(fixed_and_adaptive(), "nothing").empty


def test_between_two_evaluations_a_best_value_is_the_last_that_is_known() -> None:
    runs = frame(([0.0, 2.0], [4.0, 2.0]), ([0.0, 2.4], [6.0, 3.0]))
    mean = mean_curve(runs, "K", between="hold")
    # A step wherever one of the runs steps; the first of the two to end ends the curve.
    assert mean["epoch"].tolist() == [0, 2]
    assert mean["mean"].tolist() == [5, (2 + 6) / 2]
    assert mean_curve(runs, "K", between="hold", at=np.array([-1.0, 1.9, 2.4]))["mean"].tolist() == pytest.approx(
        [math.nan, 5, 2.5], nan_ok=True
    )


def test_by_updates_the_curve_ends_with_the_first_run_of_full_length() -> None:
    full = ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    runs = frame(full, full, ([1.0], [9.0]), updates_per_epoch=(10, 20, 10))
    mean = mean_curve(runs, "K", "updates", "hold")
    # Not until 60, where only the second run is left; nor until 10, where the third one failed.
    assert mean["updates"].tolist() == [10, 20, 30]
    assert mean["runs"].tolist() == [2, 2, 2]
    assert mean_curve(runs, "K", "updates", "hold", at=np.array([10.0]))["mean"].tolist() == [6]  # 3 and 9
    # The first at its end, the second after one epoch of two.
    runs = frame(([1.0, 2.0], [4.0, 2.0]), ([1.0, 2.0], [4.0, 2.0]), updates_per_epoch=(10, 20))
    assert mean_curve(runs, "K", "updates", at=np.array([20.0]))["mean"].tolist() == [(2 + 4) / 2]


VALUES = st.lists(st.floats(0, 10) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=8)


@settings(max_examples=30)
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_cumulative_best_is_the_lowest_finite_value_so_far(runs: list[list[float]]) -> None:
    rows = frame(*(([float(n) for n in range(len(values))], values) for values in runs)).assign(other=1)
    best = cumulative_best(rows, "K")
    assert best["other"].tolist() == [1] * len(rows)  # all columns stay
    expected = [min(filter(math.isfinite, run[: end + 1]), default=math.inf) for run in runs for end in range(len(run))]
    assert best["value"].tolist() == expected


def test_settings_are_compared_where_all_of_them_are() -> None:
    runs = sweep(
        run("a", {"valid_ppl": [5.0, 4.0, 3.0, 2.0]}, truncation__K=10),
        run("b", {"valid_ppl": [6.0, 4.0]}),
        run("c", {"valid_ppl": [8.0, 6.0]}, init=1),
    )
    rows = compare(runs, "valid_ppl", points=3)
    assert rows["setting"].tolist() == ["fixed K=5"] * 3 + ["fixed K=10"] * 3
    assert rows["epoch"].tolist() == [0, 0.5, 1] * 2
    assert rows["mean"].tolist() == [7, 6, 5, 5, 4.5, 4]
    held = compare(cumulative_best(runs, "valid_ppl"), "valid_ppl", "updates", "hold", points=3)
    assert held["updates"].tolist() == [0, 10, 20] * 2
    assert held["mean"].tolist() == [7, 7, 5, 5, 5, 4]
    runs.loc[runs["experiment_id"] == "a", "epoch"] += 9.0
    assert compare(runs, "valid_ppl").empty  # nowhere


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": "epochs"}, f"axis (=epochs) must be one of {', '.join(AXES)}; did you mean epoch?"),
        ({"between": "step"}, "between (=step) must be one of interpolate, hold"),
    ],
)
def test_bad_words(arguments: dict[str, str], message: str) -> None:
    for function in (mean_curve, compare):
        with pytest.raises(AnalysisError) as error:
            function(fixed_and_adaptive(), "valid_ppl", **arguments)
        assert str(error.value) == message
