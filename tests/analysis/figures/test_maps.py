from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures import NoDataError, lag_maps, position_maps
from tests.helpers.made_runs import gradients, positions, run, sweep


def frame() -> pd.DataFrame:
    return sweep(run("a", {"valid_ppl": [2, 2, 2], "K": [2, 3, 4]}))


def test_phi_by_epoch_and_lag_with_K() -> None:
    axes, _ = lag_maps(gradients("a"), frame(), "").axes
    (mesh,) = axes.collections
    expected = 2 * np.outer(0.5 ** np.arange(1, 7), [1, 2, 3])
    assert np.asarray(mesh.get_array()) == pytest.approx(expected)
    (line,) = axes.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 1, 2], [2, 3, 4])
    assert axes.get_ylim() == (0.5, 6.5)


def test_lags_without_a_colour_are_left_out() -> None:
    axes, _ = lag_maps(gradients("a", beta=1e-3), frame(), "").axes
    assert axes.get_ylim() == (0.5, 5.5)  # phi down to 1e-8 of the largest: lags 1 to 3; K = 4


def test_one_evaluation_makes_no_map() -> None:
    with pytest.raises(NoDataError):
        lag_maps(gradients("a", evaluations=1), frame(), "")


def test_zero_has_the_darkest_colour() -> None:
    table = gradients("a")
    axes, _ = lag_maps(table.assign(phi=table["phi"].where(table["lag"] < 6, 0.0)), frame(), "").axes
    (mesh,) = axes.collections
    assert np.asarray(mesh.get_array())[-1] == pytest.approx([mesh.norm.vmin] * 3)


def test_phi_by_position_and_lag_without_the_evaluation_before_training() -> None:
    table = positions("a")
    table["phi"] *= np.where(table["step"] == 0, 100, table["step"] / 150)  # mean over the other two: 1
    axes, _ = position_maps(table, frame(), "").axes
    (mesh,) = axes.collections
    values = np.ma.filled(mesh.get_array(), np.nan)
    assert values[1] == pytest.approx(0.5 ** np.arange(1, 7))
    assert values[0] == pytest.approx([1, 0.5, 0.25, 0.125, np.nan, np.nan], nan_ok=True)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["7", "9"]


def test_a_single_position_makes_no_map() -> None:
    table = positions("a")
    with pytest.raises(NoDataError, match="single loss position"):
        position_maps(table[table["position"] == 9], frame(), "")


def test_no_signal() -> None:
    with pytest.raises(NoDataError, match="finite and positive"):
        lag_maps(gradients("a").assign(phi=0.0), frame(), "")
