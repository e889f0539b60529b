from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.figures import NoDataError, tuning
from analysis.figures.outcomes import outcomes
from tests.helpers.made_runs import run, sweep


def grid() -> pd.DataFrame:
    """lr 1, 3 by K 2, 5: 1.8 (mean of 1.7 and 1.9), 1.2; one of two diverged (1.5 left), both diverged."""
    curves = {
        "a": (1.0, 2, 0, [6, 1.7]),
        "b": (1.0, 2, 1, [6, 1.9]),
        "c": (1.0, 5, 0, [6, 1.2]),
        "d": (3.0, 2, 0, [6, 1.5]),
        "e": (3.0, 2, 1, [6, 1e9]),
        "f": (3.0, 5, 0, [6, math.nan]),
    }
    return sweep(
        *(
            run(name, {"valid_ppl": curve}, lr=lr, truncation__K=K, init=init)
            for name, (lr, K, init, curve) in curves.items()
        )
    )


def test_outcomes() -> None:
    table = outcomes(grid(), "valid_ppl").set_index("setting")
    assert list(table.index) == ["fixed K=5, lr=1", "fixed K=2, lr=3", "fixed K=2, lr=1", "fixed K=5, lr=3"]
    assert table["best"].tolist() == pytest.approx([1.2, 1.5, 1.8, np.nan], nan_ok=True)
    assert table["diverged"].tolist() == [0, 1, 0, 1]
    assert table["runs"].tolist() == [1, 2, 2, 1]


def test_cells_are_means_and_the_best_is_framed() -> None:
    axes = tuning(grid(), "").axes[0]
    (mesh,) = axes.collections
    assert np.ma.filled(mesh.get_array(), np.nan) == pytest.approx(np.array([[1.8, 1.2], [1.5, np.nan]]), nan_ok=True)
    (mesh_low, mesh_high) = mesh.get_clim()
    assert (mesh_low, mesh_high) == pytest.approx((1.2, 1.8))  # diverged cells squash no colours
    assert [text.get_text() for text in axes.texts] == ["1.800", "1.200", "1.500\n1 of 2 diverged", "diverged"]
    (frame,) = axes.patches
    assert frame.get_xy() == (0.5, -0.5)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "3"]


def test_the_best_over_other_options() -> None:
    frame = sweep(grid().assign(hidden=8), grid().assign(hidden=9, experiment_id=lambda f: f["experiment_id"] + "9"))
    frame.loc[(frame["hidden"] == 9) & (frame["value"] == 1.2), "value"] = 1.1
    assert tuning(frame, "").axes[0].texts[1].get_text() == "1.100"


def test_by_delta() -> None:
    frame = grid()
    frame = frame.assign(
        **{"truncation": "adaptive", "truncation.delta": frame["truncation.K"] / 10, "truncation.K": None}
    )
    axes = tuning(frame, "", "delta").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.2", "0.5"]
    with pytest.raises(NoDataError, match="two values of K"):
        tuning(frame, "", "K")
    with pytest.raises(AnalysisError, match=r"against \(=lr\) must be one of K, delta"):
        tuning(frame, "", "lr")


def test_one_learning_rate_is_no_map() -> None:
    with pytest.raises(NoDataError, match="fewer than two learning rates"):
        tuning(grid()[lambda f: f["lr"] == 1], "")
