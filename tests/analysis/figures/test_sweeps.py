import math

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.figures import parallel, tuning
from analysis.figures.sweeps import outcomes
from tests.helpers.made_runs import run, sweep


def grid() -> pd.DataFrame:
    """lr 1, 3 by K 2, 5: 1.8 (mean of 1.7 and 1.9), 1.2; one of two diverged (1.5 left), both diverged."""
    results = [(1.0, 2, 0, 1.7), (1.0, 2, 1, 1.9), (1.0, 5, 0, 1.2), (3.0, 2, 0, 1.5), (3.0, 2, 1, 1e9)]
    results.append((3.0, 5, 0, math.nan))
    runs = (
        run(f"{number}", {"valid_ppl": [6, best]}, lr=lr, truncation__K=K, init=init)
        for number, (lr, K, init, best) in enumerate(results)
    )
    return sweep(*runs)


def test_outcomes() -> None:
    table = outcomes(grid(), "valid_ppl").set_index("setting")
    assert list(table.index) == ["fixed K=5, lr=1", "fixed K=2, lr=3", "fixed K=2, lr=1", "fixed K=5, lr=3"]
    assert table["best"].tolist() == pytest.approx([1.2, 1.5, 1.8, np.nan], nan_ok=True)
    assert table["lost"].tolist() == [0, 1, 0, 1]
    assert table["runs"].tolist() == [1, 2, 2, 1]


def test_unfinished_runs_are_lost_where_others_finished() -> None:
    runs = [
        run("a", {"valid_ppl": [6, 3, 2]}, epochs=2.0),
        run("b", {"valid_ppl": [6, 1.1]}, epochs=2.0, init=1),
        run("c", {"valid_ppl": [6, 4]}, epochs=2.0, lr=3.0),  # nothing is better yet
    ]
    table = outcomes(sweep(*runs), "valid_ppl")
    assert table[["lr", "runs", "lost", "best"]].to_numpy().tolist() == [[1, 2, 1, 2], [3, 1, 0, 4]]


def test_cells_are_means_and_the_best_is_framed() -> None:
    axes = tuning(grid(), "").axes[0]
    (mesh,) = axes.collections
    assert np.ma.filled(mesh.get_array(), np.nan) == pytest.approx(np.array([[1.8, 1.2], [1.5, np.nan]]), nan_ok=True)
    (mesh_low, mesh_high) = mesh.get_clim()
    assert (mesh_low, mesh_high) == pytest.approx((1.2, 1.8))  # diverged cells squash no colours
    assert [text.get_text() for text in axes.texts] == ["1.800", "1.200", "1.500\n1 of 2 lost", "lost"]
    (frame,) = axes.patches
    assert frame.get_xy() == (0.5, -0.5)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "3"]
    # The best over other options.
    both = sweep(
        grid().assign(hidden=8), grid().assign(hidden=9, experiment_id=lambda rows: rows["experiment_id"] + "9")
    )
    both.loc[(both["hidden"] == 9) & (both["value"] == 1.2), "value"] = 1.1
    assert tuning(both, "").axes[0].texts[1].get_text() == "1.100"


def test_by_delta() -> None:
    deltas = {"truncation": "adaptive", "truncation.delta": grid()["truncation.K"] / 10, "truncation.K": None}
    axes = tuning(grid().assign(**deltas), "", "delta").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.2", "0.5"]
    with pytest.raises(AnalysisError, match=r"against \(=lr\) must be one of K, delta"):
        tuning(grid(), "", "lr")


def test_lines_go_through_their_options_to_their_result_the_best_on_top() -> None:
    settings = [(2, 1.0, 1.5), (2, 3.0, 1.3), (5, 1.0, 1.2), (5, 3.0, 1.1), (5, 9.0, math.nan)]
    runs = [run(f"{K}{lr}", {"valid_ppl": [2, value]}, truncation__K=K, lr=lr) for K, lr, value in settings]
    axes, _ = parallel(sweep(*runs), "").axes
    (lines,) = axes.collections
    assert np.asarray(lines.get_array()) == pytest.approx([1.5, 1.3, 1.2, 1.1])  # the last is drawn on top
    ends = np.array([line[-1] for line in lines.get_segments()])
    assert ends[:, 0] == pytest.approx(2)  # policy, lr, result
    assert ends[:, 1] == pytest.approx([1, 0.5, 0.25, 0])
    starts = np.array([line[0, 1] for line in lines.get_segments()])
    assert starts == pytest.approx([0.375, 0.125, 0.875, 0.625])  # of fixed K=2 and K=5; the better one lower
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == ["policy", "fixed K=2", "fixed K=5"]
    assert texts[-1] == "1 of 5 settings failed or diverged: left out"


def test_an_option_with_many_numbers_has_an_axis_of_numbers() -> None:
    rates = np.geomspace(0.01, 1, 21)
    runs = [run(f"{lr}", {"valid_ppl": [3, 1 + lr]}, lr=lr, truncation__K=2 + (lr > 0.1)) for lr in rates]
    axes, _ = parallel(sweep(*runs), "").axes
    middle = [line[24, 1] for line in axes.collections[0].get_segments()]  # the second axis
    assert sorted(middle) == pytest.approx(np.linspace(0, 1, 21))
    assert {"0.01", "1"} <= {text.get_text() for text in axes.texts}


def test_equal_results() -> None:
    pairs = [(K, lr) for K in (2, 3) for lr in (1.0, 2.0)]
    runs = (run(f"{K}{lr}", {"valid_ppl": [2, 1]}, truncation__K=K, lr=lr) for K, lr in pairs)
    ends = [line[-1, 1] for line in parallel(sweep(*runs), "").axes[0].collections[0].get_segments()]
    assert ends == [0.5] * 4
