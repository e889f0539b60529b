from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.diagnosis.figure import BiasCurve, reach
from analysis.figures import render

PHI = 0.5 ** np.arange(1.0, 11)  # lags 1..10
INF = float("inf")


def curve(name: str, values: np.ndarray, lengths: list[float]) -> BiasCurve:
    return BiasCurve(name, values, values / 2, values * 2, lengths)


def labelled(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}


def points(axes: Axes) -> list[tuple[float, float]]:
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]


def test_phi_its_decay_and_the_biases_with_their_lengths() -> None:
    curves = [curve("bound", 8 * PHI, [3, 6]), curve("measured", PHI, [1, 3])]
    figure = reach("title", PHI, PHI / 3, PHI * 3, (8, np.log(0.5)), 4, curves, [0.5, 0.125])
    left, right = figure.axes
    found = labelled(left)
    assert found["phi; shaded: 90 % of losses"].get_ydata() == pytest.approx(PHI)
    fit = found["fitted decay beyond tau"]
    assert list(fit.get_xdata()) == [8, 9, 10]
    assert fit.get_ydata() == pytest.approx(PHI[7:])
    assert [line for line in left.get_lines() if list(line.get_xdata()) == [4, 4]]
    assert list(labelled(right)["K in use, 4"].get_xdata()) == [4, 4]
    assert list(labelled(right)["bound"].get_xdata()) == list(range(1, 11))
    assert points(right) == [(3, 0.5), (6, 0.125), (1, 0.5), (3, 0.125)]
    assert [text.get_text() for text in right.texts] == ["3", "6", "1", "3", "0.5", "0.125"]
    assert (left.get_xlabel(), right.get_xlabel()) == ("lag k (steps)", "truncation length K (steps)")
    assert left.get_yscale() == right.get_yscale() == "log"
    render(figure)


def test_what_lies_outside_is_left_out() -> None:
    """An infinite bound, a measured bias of zero, no decay, lags without signal, a K beyond the window."""
    phi = np.array([1.0, 1e-5, 1e-20, 0.0])
    curves = [
        BiasCurve("bound", np.full(30, np.inf), None, None, [INF]),
        BiasCurve("measured", np.array([0.5, 0.2, 0.05, 0.0]), None, None, [2]),
    ]
    left, right = reach("", phi, phi * 0, phi, (4, -np.inf), 99, curves, [0.3]).axes
    (line,) = labelled(left).values()
    assert list(line.get_ydata()) == [1.0, 1e-5]
    assert left.get_xlim()[1] < 3
    assert np.isnan(labelled(right)["bound"].get_ydata()).all()
    assert np.isnan(labelled(right)["measured"].get_ydata()).tolist() == [False, False, False, True]
    assert points(right) == [(2, 0.3)]
    assert right.get_xlim()[1] < 6
    render(left.figure)


def test_a_bound_is_followed_beyond_the_window() -> None:
    curves = [BiasCurve("bound", 0.9 ** np.arange(100.0), None, None, [16.0, 45.0])]
    _, right = reach("", PHI, PHI, PHI, (8, 0.0), 4, curves, [0.2, 0.01]).axes
    assert points(right) == [(16, 0.2)]  # 45 is more than twice W
    assert 16 < right.get_xlim()[1] < 20
