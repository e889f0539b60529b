import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from analysis.figures import component_profiles, lag_maps, lag_profiles, lag_ratios, noise_profiles, position_maps
from analysis.figures.lags import successive_ratios
from tests.helpers.made_runs import gradients, positions, run, sweep

LOG_BETA = np.log(0.5)
FRAME = sweep(run("a", {"valid_ppl": [2, 2, 2], "K": [2, 3, 4]}))


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
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lag k (steps)", "gradient norm phi")


def test_the_fit_begins_where_fit_from_says_and_passes_through_the_lag_beyond_tau() -> None:
    log_beta = {"valid_ppl": [2], "log_beta": [np.log(0.25)]}
    frame = sweep(run("a", log_beta, probe__fit_from=1))
    (axes,) = lag_profiles(gradients("a", evaluations=1), frame, "").axes
    (dashed,) = (line for line in axes.get_lines() if line.is_dashed())
    assert list(dashed.get_xdata()) == [2, 3, 4, 5, 6]
    assert dashed.get_ydata() == pytest.approx(2 * 0.5**4 * 0.25 ** np.arange(-2.0, 3))


@pytest.mark.parametrize("metrics", [{}, {"log_beta": [-np.inf]}, {"log_beta": [np.nan]}])
def test_without_a_fit_and_what_is_of_no_consequence(metrics: dict[str, list[float]]) -> None:
    frame = sweep(run("a", {"valid_ppl": [2], **metrics}))
    (axes,) = lag_profiles(gradients("a", evaluations=1, beta=1e-5), frame, "").axes
    assert [(line.get_label(), list(line.get_xdata())) for line in axes.get_lines()] == [("epoch 0", [1, 2, 3])]


def test_the_signal_to_noise_at_each_K_with_the_K_in_use() -> None:
    (axes,) = noise_profiles(gradients("a"), FRAME, "").axes
    lines = [line for line in axes.get_lines() if str(line.get_label()).startswith("epoch")]
    for evaluation, line in enumerate(lines):
        K = np.arange(1, 7)
        assert line.get_ydata() == pytest.approx(2 * (evaluation + 1) * K * 0.5**K)  # mean of two probes
    points = [list(line.get_xdata()) for line in axes.get_lines() if line.get_marker() == "o"]
    assert points == [[2], [3], [4]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("truncation K (steps)", "signal to noise")


def test_a_signal_lost_in_one_probe_counts_as_none_and_lost_in_all_is_a_gap() -> None:
    lost = gradients("a", evaluations=1)
    lost.loc[(lost["replicate"] == 0) | (lost["lag"] == 3), "signal_to_noise"] = 0.0
    (axes,) = noise_profiles(lost, FRAME, "").axes
    (line,) = (line for line in axes.get_lines() if str(line.get_label()).startswith("epoch"))
    K = np.array([1, 2, np.nan, 4, 5, 6])
    np.testing.assert_allclose(line.get_ydata(), 1.5 * K * 0.5**K)  # half of the second probe's


def test_a_panel_for_each_component() -> None:
    figure = component_profiles(gradients("a", evaluations=1), FRAME, "")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["whole state", "hidden0"]
    many = pd.concat([gradients("a", evaluations=1).replace("hidden0", f"hidden{number}") for number in range(40)])
    assert len(component_profiles(many, FRAME, "").axes) == 30


def test_phi_by_epoch_and_lag_with_K() -> None:
    axes, _ = lag_maps(gradients("a"), FRAME, "").axes
    (mesh,) = axes.collections
    expected = 2 * np.outer(0.5 ** np.arange(1, 7), [1, 2, 3])
    assert np.asarray(mesh.get_array()) == pytest.approx(expected)
    (line,) = axes.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 1, 2], [2, 3, 4])
    assert axes.get_ylim() == (0.5, 6.5)


def test_lags_without_a_colour_are_left_out_and_zero_has_the_darkest() -> None:
    axes, _ = lag_maps(gradients("a", beta=1e-3), FRAME, "").axes
    assert axes.get_ylim() == (0.5, 5.5)  # phi down to 1e-8 of the largest: lags 1 to 3; K = 4
    table = gradients("a")
    axes, _ = lag_maps(table.assign(phi=table["phi"].where(table["lag"] < 6, 0.0)), FRAME, "").axes
    (mesh,) = axes.collections
    assert np.asarray(mesh.get_array())[-1] == pytest.approx([mesh.norm.vmin] * 3)


def test_phi_by_position_and_lag_without_the_evaluation_before_training() -> None:
    table = positions("a")
    table["phi"] *= np.where(table["step"] == 0, 100, table["step"] / 150)  # mean over the other two: 1
    axes, _ = position_maps(table, FRAME, "").axes
    (mesh,) = axes.collections
    values = np.ma.filled(mesh.get_array(), np.nan)
    assert values[1] == pytest.approx(0.5 ** np.arange(1, 7))
    assert values[0] == pytest.approx([1, 0.5, 0.25, 0.125, np.nan, np.nan], nan_ok=True)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["7", "9"]


def test_ratios_never_reach_from_one_profile_into_another() -> None:
    ratios = successive_ratios(positions("a", lags=4, evaluations=2))
    assert ratios["ratio"].to_numpy() == pytest.approx(0.5)
    assert ratios["lag"].tolist() == [1, 1, 2, 3] * 2  # two lags of position 7, four of position 9


def test_a_lag_that_is_missing_or_without_signal_has_no_ratio() -> None:
    table = positions("a", evaluations=1).query("position == 9")
    lag, phi = table["lag"], table["phi"]
    assert successive_ratios(table[lag != 3])["lag"].tolist() == [1, 4, 5]
    assert successive_ratios(table.assign(phi=phi.where(lag != 3, 0.0)))["lag"].tolist() == [1, 4, 5]
    assert successive_ratios(table.assign(phi=phi.where(lag < 5)))["lag"].tolist() == [1, 2, 3]


@settings(deadline=None, max_examples=10)
@given(st.floats(0.01, 2), st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(beta: float, seed: int) -> None:
    shuffled = positions("a", beta=beta).sample(frac=1, random_state=seed)
    assert successive_ratios(shuffled)["ratio"].to_numpy() == pytest.approx(beta)


def test_boxes_by_lag_with_the_fitted_decay_after_training_began() -> None:
    frame = sweep(run("a", {"valid_ppl": [2, 2, 2], "log_beta": np.log([0.1, 0.5, 0.5])}))
    (axes,) = lag_ratios(positions("a"), frame, "").axes
    medians = [line.get_ydata()[0] for line in axes.get_lines() if line.get_linewidth() == 1.6]
    assert medians == pytest.approx([0.5] * 5)
    levels = [line.get_ydata()[0] for line in axes.get_lines() if list(line.get_xdata()) == [0, 1]]
    assert levels == pytest.approx([1, 0.5])
    assert axes.get_xlabel() == "lag k (steps)"
    (axes,) = lag_ratios(positions("a", lags=62, beta=0.9), FRAME, "").axes
    assert axes.get_xlabel() == "lag k (steps), in bins of 5"
    assert len(axes.patches) == 13  # ratios of lags 1..61
