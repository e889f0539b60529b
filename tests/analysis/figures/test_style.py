import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.style import edges, legend_below, log_axis, new_figure, panels, scale, styled, whole_numbers


def tick_texts(axis_figure: Figure) -> list[str]:
    axis_figure.draw_without_rendering()
    return [label.get_text() for label in axis_figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize(
    ("low", "high", "some"),
    [
        (1.0, 30.0, "20"),
        (0.01, 10.0, "0.1"),
        (1e-9, 1.0, "$\\mathdefault{10^{-6}}$"),
        (1e-5, 9e-5, "$\\mathdefault{2\\times10^{-5}}$"),
    ],
)
def test_plain_numbers_but_for_many_decades(low: float, high: float, some: str) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [low, high])
    log_axis(axes.yaxis, low, high)
    assert some in tick_texts(figure)


def test_scale_is_logarithmic_from_a_decade_on() -> None:
    axes = Figure().subplots()
    for values, expected in (([1, 9], "linear"), ([-1, 100], "linear"), ([np.nan, np.inf], "linear"), ([1, 10], "log")):
        scale(axes.yaxis, np.array(values, float))
        assert axes.get_yscale() == expected


def test_counts_have_whole_ticks_and_edges_lie_between_centres() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([5, 6, 7])
    whole_numbers(axes.yaxis, np.array([5, 6, 7]))
    assert all(float(text) == round(float(text)) for text in tick_texts(figure))
    assert edges(np.array([0.0, 2.0, 4.0])) == pytest.approx([-1, 1, 3, 5])
    assert edges(np.array([3.0])) == pytest.approx([2.5, 3.5])


def test_panels_in_rows_with_labels_outside() -> None:
    figure, each = panels("", 3, 2.0, x="x", y="y")
    assert figure.axes == each
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in each] == [("", "y"), ("x", ""), ("x", "y")]
    assert figure.get_figheight() == pytest.approx(4.4)


@pytest.mark.parametrize("length", [5, 20, 60, 200])
def test_a_legend_fits_into_the_figure(length: int) -> None:
    figure = new_figure("", 2.0)
    axes = figure.subplots()
    legend_below(figure, [Line2D([], [], label=f"{number} " + "name=1, " * (length // 8)) for number in range(10)])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.y0 <= box.y0
    assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
    assert not box.overlaps(axes.get_tightbbox())


def test_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(mpl.rcParams)
    inside = styled(lambda: mpl.rcParams["pdf.fonttype"])
    assert inside() == 42
    assert dict(mpl.rcParams) == before
