from __future__ import annotations

import numpy as np
import pytest

from analysis.figures import component_profiles, lag_profiles
from tests.helpers.made_runs import gradients, run, sweep

LOG_BETA = np.log(0.5)


def test_three_moments_with_the_fitted_decay_and_K() -> None:
    frame = sweep(run("a", {"valid_ppl": [2, 2, 2, 2, 2], "K": [2, 2, 3, 3, 9], "log_beta": [LOG_BETA] * 5}))
    (axes,) = lag_profiles(gradients("a", evaluations=5), frame, "").axes
    lines = [line for line in axes.get_lines() if str(line.get_label()).startswith("epoch")]
    assert [line.get_label() for line in lines] == ["epoch 0", "epoch 2", "epoch 4"]
    for line, evaluation in zip(lines, (0, 2, 4), strict=True):
        phi = 2 * (evaluation + 1) * 0.5 ** np.arange(1, 7)  # mean of a probe and its threefold
        assert line.get_ydata() == pytest.approx(phi)
    points = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in points] == [[2], [3]]  # K = 9 is beyond the window
    assert points[0].get_ydata() == pytest.approx([2 * 0.5**2])
    dashed = [line for line in axes.get_lines() if line.is_dashed()]
    assert [list(line.get_xdata()) for line in dashed] == [[4, 5, 6]] * 3  # lags tau+1.. for tau = 3
    assert dashed[0].get_ydata() == pytest.approx(2 * 0.5 ** np.array([4, 5, 6]))
    assert axes.get_yscale() == "log"


def test_the_fit_begins_where_fit_from_says_and_passes_through_the_lag_beyond_tau() -> None:
    log_beta = {"valid_ppl": [2], "log_beta": [np.log(0.25)]}
    frame = sweep(run("a", log_beta, probe__fit_from=1))
    (axes,) = lag_profiles(gradients("a", evaluations=1), frame, "").axes
    (dashed,) = (line for line in axes.get_lines() if line.is_dashed())
    assert list(dashed.get_xdata()) == [2, 3, 4, 5, 6]
    assert dashed.get_ydata() == pytest.approx(2 * 0.5**4 * 0.25 ** np.arange(-2.0, 3))


@pytest.mark.parametrize("metrics", [{}, {"log_beta": [-np.inf]}, {"log_beta": [np.nan]}])
def test_without_a_fit(metrics: dict[str, list[float]]) -> None:
    frame = sweep(run("a", {"valid_ppl": [2], **metrics}))
    (axes,) = lag_profiles(gradients("a", evaluations=1), frame, "").axes
    assert [line.get_label() for line in axes.get_lines()] == ["epoch 0"]


def test_what_is_of_no_consequence_is_left_out() -> None:
    frame = sweep(run("a", {"valid_ppl": [2]}))
    (axes,) = lag_profiles(gradients("a", evaluations=1, beta=1e-5), frame, "").axes
    assert list(axes.get_lines()[0].get_xdata()) == [1, 2, 3]


def test_a_panel_for_each_component() -> None:
    frame = sweep(run("a", {"valid_ppl": [2]}))
    figure = component_profiles(gradients("a", evaluations=1), frame, "")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["whole state", "hidden0"]
