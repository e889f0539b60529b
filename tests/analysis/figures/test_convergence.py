import math

import numpy as np
import pytest
from matplotlib.axes import Axes

from analysis import AnalysisError
from analysis.figures import clocks, convergence, relative_bias
from analysis.figures.lines import default_lines
from tests.helpers.made_runs import fixed_and_adaptive, run, sweep


def thick(axes: Axes) -> dict[str, list[float]]:
    """The values of the lines of the settings, by label."""
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in lines}


def test_lines_are_means_over_init() -> None:
    figure = convergence(fixed_and_adaptive(), "copy")
    left, middle, right = figure.axes
    lines = thick(left)
    assert list(lines) == ["adaptive delta=0.9", "fixed K=5"]
    assert lines["adaptive delta=0.9"] == pytest.approx([1.4, 1.1, 1.1])  # not the 6 before training
    assert lines["fixed K=5"] == pytest.approx([1.7, 1.4, 1.35])
    assert thick(middle)["fixed K=5"] == pytest.approx([1.7, 1.4, 1.3])  # 1.2 and 1.4 at the end
    assert thick(right) == {"adaptive delta=0.9": [9, 9, 7, 6], "fixed K=5": [5, 5, 5, 5]}
    assert len(left.collections) == 1  # the band of the setting with two runs
    assert len(left.get_lines()) == 2 + 2  # and its two runs
    labels = ["validation PPL", "best validation PPL", "truncation K (steps)"]
    assert [axes.get_ylabel() for axes in figure.axes] == labels
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(left.get_tightbbox())
    assert left.get_title(loc="left") == ""


def test_the_axis_of_K_is_logarithmic_from_a_decade_on() -> None:
    runs = [run(name, {"valid_ppl": [2.0, 1.5], "K": [K, K]}, truncation__K=K) for name, K in (("a", 2), ("b", 19))]
    assert convergence(sweep(*runs), "").axes[2].get_yscale() == "linear"
    runs.append(run("c", {"valid_ppl": [2.0, 1.5], "K": [20, 20]}, truncation__K=20))
    assert convergence(sweep(*runs), "").axes[2].get_yscale() == "log"


@pytest.mark.parametrize("bad", [1e6, math.inf, math.nan])
def test_a_diverged_run_does_not_squash_the_rest(bad: float) -> None:
    diverged = {"valid_ppl": [6.0, 1.8, 1.5, bad], "K": [7] * 4}
    frame = sweep(fixed_and_adaptive(), *(run(f"d{init}", diverged, truncation__K=7, init=init) for init in (0, 1)))
    left = convergence(frame, "").axes[0]
    assert left.get_ylim() == pytest.approx((1.1 - 0.04, 1.9 + 0.04))  # values from 1.1 to 1.9, and 5% of that
    assert left.get_title(loc="left") == "2 of 5 runs above 1.94 or NaN"
    _, band = left.collections
    assert max(path.vertices[:, 0].max() for path in band.get_paths()) == 2  # it ends where the mean leaves


def test_a_diverged_run_is_no_part_of_the_mean_of_others() -> None:
    frame = sweep(fixed_and_adaptive(), run("d", {"valid_ppl": [6.0, 1.8, 1.5, 9.0], "K": [5] * 4}, init=2))
    lines = default_lines(frame)
    assert thick(convergence(frame, "", lines).axes[0])["fixed K=5"] == pytest.approx([1.7, 1.4, 1.35])
    assert lines.remark().endswith("Left out: 1 run that failed, diverged or did not finish yet.")


def test_there_may_be_nothing_but_validation_before_training_or_what_diverged() -> None:
    frame = sweep(run("a", {"valid_ppl": [1.4], "K": [5]}))
    assert thick(convergence(frame, "").axes[0]) == {"fixed K=5": [1.4]}
    frame = sweep(run("a", {"valid_ppl": [math.nan, math.inf]}))
    assert convergence(frame, "").axes[0].get_title(loc="left") == "no finite value: 1 of 1 runs"
    with pytest.raises(AnalysisError, match="no validation metric"):
        convergence(sweep(run("a", {"K": [5]})), "")


def test_clocks_hold_the_best_value_until_the_next_evaluation() -> None:
    figure = clocks(fixed_and_adaptive(), "")
    names = ["epoch", "epoch, probes counted", "updates", "training time (s)"]
    assert [axes.get_xlabel() for axes in figure.axes] == names
    computed = fixed_and_adaptive().assign(compute_seconds=1.0)
    assert clocks(computed, "").axes[3].get_xlabel() == "processor time (s)"
    for axes, unit in zip(figure.axes, (1, 1.5, 20, 2), strict=True):
        line = next(line for line in axes.get_lines() if line.get_label() == "adaptive delta=0.9")
        assert line.get_xdata() == pytest.approx(np.array([1, 2, 3]) * unit)
        assert line.get_ydata() == pytest.approx([1.4, 1.1, 1.1])
        assert line.get_drawstyle() == "steps-post"


def test_the_mean_of_the_logs_is_drawn_and_what_the_policy_allows() -> None:
    bound, measured = relative_bias(fixed_and_adaptive(), "").axes
    lines = {str(line.get_label()): line for line in bound.get_lines()}
    assert lines["fixed K=5"].get_ydata() == pytest.approx([4.0] * 4)  # geometric mean of 2 and 8
    assert lines["adaptive delta=0.9"].get_ydata() == pytest.approx([1.0] * 4)
    assert any(list(line.get_ydata()) == [0.9, 0.9] for line in bound.get_lines())
    assert [text.get_text() for text in measured.texts] == ["delta 0.9"]
    assert bound.get_yscale() == "log"


def test_a_setting_without_a_bias_is_not_in_the_legend() -> None:
    frame = sweep(fixed_and_adaptive(), run("d", {"valid_ppl": [6.0, 1.4], "K": [9, 9]}, truncation__K=9))
    (legend,) = relative_bias(frame, "").legends
    assert [text.get_text() for text in legend.get_texts()] == ["adaptive delta=0.9", "fixed K=5"]


def test_mean_over_probes_and_gaps() -> None:
    first = run("a", {"valid_ppl": [2, 2, 2], "log_relative_bias": [0.0, np.inf, 0.0]})
    second = run("a", {"log_relative_bias": [2.0, 0.0, 0.0], "log_relative_bias_measured": [-1, -np.inf, 0]})
    frame = sweep(first, second.assign(replicate=(second["metric"] == "log_relative_bias").astype(int)))
    bound, measured = relative_bias(frame, "").axes
    assert bound.get_lines()[0].get_ydata() == pytest.approx([np.e, np.nan, 1.0], nan_ok=True)
    assert measured.get_lines()[0].get_ydata() == pytest.approx([1 / np.e, np.nan, 1.0], nan_ok=True)


def test_a_value_between_infinite_ones_is_a_point_and_the_axis_ends_where_a_bias_is_of_no_consequence() -> None:
    frame = sweep(run("a", {"valid_ppl": [2] * 4, "log_relative_bias": [np.inf, -40.0, np.nan, np.inf]}))
    bound, measured = relative_bias(frame, "").axes
    assert bound.get_title(loc="left") == "bound: infinite in 3 of 4 evaluations"
    points = [line for line in bound.get_lines() if line.get_marker() == "."]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in points] == [([1], [np.exp(-40)])]
    assert measured.get_title(loc="left") == "measured"
    assert bound.get_ylim()[0] == pytest.approx(1e-4 / 1.5)
