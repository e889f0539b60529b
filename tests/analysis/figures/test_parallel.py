from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.figures import NoDataError, parallel
from tests.helpers.made_runs import run, sweep


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
    assert texts[-1] == "1 of 5 settings diverged and are left out"


def test_an_option_with_many_numbers_has_an_axis_of_numbers() -> None:
    rates = np.geomspace(0.01, 1, 21)
    runs = [run(f"{lr}", {"valid_ppl": [2, 1 + lr]}, lr=lr, truncation__K=2 + (lr > 0.1)) for lr in rates]
    axes, _ = parallel(sweep(*runs), "").axes
    middle = [line[24, 1] for line in axes.collections[0].get_segments()]  # the second axis
    assert sorted(middle) == pytest.approx(np.linspace(0, 1, 21))
    assert {"0.01", "1"} <= {text.get_text() for text in axes.texts}


def test_one_option_is_not_enough() -> None:
    frame = sweep(*(run(f"{K}", {"valid_ppl": [2, K]}, truncation__K=K) for K in (2, 3)))
    with pytest.raises(NoDataError, match="fewer than two options vary"):
        parallel(frame, "")


def test_equal_results() -> None:
    frame = sweep(
        *(run(f"{K}{lr}", {"valid_ppl": [2, 1]}, truncation__K=K, lr=lr) for K in (2, 3) for lr in (1.0, 2.0))
    )
    ends = [line[-1, 1] for line in parallel(frame, "").axes[0].collections[0].get_segments()]
    assert ends == [0.5] * 4
