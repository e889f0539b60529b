import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.diagnosis.figure import reach
from analysis.figures import render
from atbptt.probes import RelativeBias

PHI = 0.5 ** np.arange(1.0, 11)  # lags 1..10


def bias(values: np.ndarray, *factors: float) -> RelativeBias:
    """A bias, and resamples of it that are so many times as large."""
    return RelativeBias(values, np.array(factors)[:, None] * values)


def labelled(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}


def points(axes: Axes) -> list[tuple[float, float]]:
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]


def test_phi_its_decay_and_the_biases_with_their_lengths() -> None:
    biases = {"bound": bias(8 * PHI, 0.5, 2.0), "measured": bias(PHI)}
    norms = np.stack([PHI / 3, PHI * 3])
    figure = reach("title", PHI, norms, (8, np.log(0.5)), 4, biases, [0.5, 0.125])
    left, right = figure.axes
    found = labelled(left)
    assert found["phi; shaded: 90 % of losses"].get_ydata() == pytest.approx(PHI)
    fit = found["fitted decay beyond tau"]
    assert list(fit.get_xdata()) == [8, 9, 10]
    assert fit.get_ydata() == pytest.approx(PHI[7:])
    assert [line for line in left.get_lines() if list(line.get_xdata()) == [4, 4]]
    assert list(labelled(right)["K in use, 4"].get_xdata()) == [4, 4]
    assert list(labelled(right)["bound"].get_xdata()) == list(range(1, 11))
    assert points(right) == [(4, 0.5), (6, 0.125), (1, 0.5), (3, 0.125)]
    assert [text.get_text() for text in right.texts] == ["4", "6", "1", "3", "0.5", "0.125"]
    (band,) = right.collections  # the measured bias has no resamples
    assert band.get_paths()[0].get_extents().ymin == pytest.approx(4 * PHI[-1])
    (band,) = left.collections
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(PHI[0] / 3 + 0.95 * PHI[0] * 8 / 3)
    assert (left.get_xlabel(), right.get_xlabel()) == ("lag k (steps)", "truncation length K (steps)")
    assert left.get_yscale() == right.get_yscale() == "log"
    render(figure)


def test_what_lies_outside_is_left_out() -> None:
    """An infinite bound, a measured bias of zero, no decay, lags without signal, a K beyond the window."""
    phi = np.array([1.0, 1e-5, 1e-20, 0.0])
    biases = {"bound": bias(np.full(30, np.inf)), "measured": bias(np.array([0.5, 0.2, 0.05, 0.0]))}
    left, right = reach("", phi, np.stack([phi * 0, phi]), (4, -np.inf), 99, biases, [0.3]).axes
    (line,) = labelled(left).values()
    assert list(line.get_ydata()) == [1.0, 1e-5]
    assert left.get_xlim()[1] < 3
    assert np.isnan(labelled(right)["bound"].get_ydata()).all()
    assert np.isnan(labelled(right)["measured"].get_ydata()).tolist() == [False, False, False, True]
    assert points(right) == [(2, 0.3)]
    assert right.get_xlim()[1] < 6
    render(left.figure)


def test_a_bound_is_followed_beyond_the_window() -> None:
    biases = {"bound": bias(0.9 ** np.arange(100.0))}
    _, right = reach("", PHI, PHI[None], (8, 0.0), 4, biases, [0.2, 0.01]).axes
    assert points(right) == [(17, 0.2)]  # K(0.01) = 45 is more than twice W
    assert 17 < right.get_xlim()[1] < 20
