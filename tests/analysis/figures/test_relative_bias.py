from __future__ import annotations

import numpy as np
import pytest

from analysis.figures import NoDataError, relative_bias
from tests.helpers.made_runs import fixed_and_adaptive, run, sweep


def test_the_mean_of_the_logs_is_drawn_and_what_the_policy_allows() -> None:
    bound, measured = relative_bias(fixed_and_adaptive(), "").axes
    lines = {str(line.get_label()): line for line in bound.get_lines()}
    assert lines["fixed K=5"].get_ydata() == pytest.approx([4.0] * 4)  # geometric mean of 2 and 8
    assert lines["adaptive delta=0.9"].get_ydata() == pytest.approx([1.0] * 4)
    assert any(list(line.get_ydata()) == [0.9, 0.9] for line in bound.get_lines())
    assert [text.get_text() for text in measured.texts] == ["delta 0.9"]
    assert bound.get_yscale() == "log"


def test_mean_over_probes_and_gaps() -> None:
    first = run("a", {"valid_ppl": [2, 2, 2], "log_relative_bias": [0.0, np.inf, 0.0]})
    second = run("a", {"log_relative_bias": [2.0, 0.0, 0.0], "log_relative_bias_measured": [-1, -np.inf, 0]})
    frame = sweep(first, second.assign(replicate=(second["metric"] == "log_relative_bias").astype(int)))
    bound, measured = relative_bias(frame, "").axes
    assert bound.get_lines()[0].get_ydata() == pytest.approx([np.e, np.nan, 1.0], nan_ok=True)
    assert measured.get_lines()[0].get_ydata() == pytest.approx([1 / np.e, np.nan, 1.0], nan_ok=True)


def test_a_value_between_infinite_ones_is_a_point() -> None:
    frame = sweep(run("a", {"valid_ppl": [2] * 4, "log_relative_bias": [np.inf, 0.0, np.nan, np.inf]}))
    bound, measured = relative_bias(frame, "").axes
    assert bound.get_title(loc="left") == "bound: infinite in 3 of 4 evaluations"
    points = [line for line in bound.get_lines() if line.get_marker() == "."]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in points] == [([1], [1])]
    assert measured.get_title(loc="left") == "measured"


def test_the_axis_ends_where_a_bias_is_of_no_consequence() -> None:
    frame = sweep(run("a", {"valid_ppl": [2, 2], "log_relative_bias": [-40.0, 0.0]}))
    assert relative_bias(frame, "").axes[0].get_ylim()[0] == pytest.approx(1e-4 / 1.5)


def test_nothing_measured() -> None:
    with pytest.raises(NoDataError, match="no finite log_relative_bias"):
        relative_bias(sweep(run("a", {"valid_ppl": [2.0], "log_relative_bias": [np.inf]})), "")
