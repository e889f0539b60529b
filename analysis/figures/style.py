"""The style of all figures: sizes, colours, panels, legends, axes with plain numbers."""

import functools
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, LogFormatterSciNotation, LogLocator, MaxNLocator, NullLocator

from atbptt.errors import AnalysisError, printable, shortened

from ..tables import measure_name

P = ParamSpec("P")
R = TypeVar("R")

COLOR_MAP = "viridis"
STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper", font_scale=1.15),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.titlesize": "large",
    "grid.color": ".9",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "image.cmap": COLOR_MAP,
}
# Seaborn's, the most distinct first; without the yellow and the pink, which are too pale for thin lines.
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _BROWN, _, _GREY, _, _SKY = sns.color_palette("colorblind", 10)
COLORS = [_BLUE, _ORANGE, _GREEN, _PURPLE, (0.1, 0.1, 0.1), _RED, _SKY, _BROWN, _GREY, (0.45, 0.15, 0.45)]
ACCENT = _RED
DASHES = ("-", "--", ":", "-.")
NOTE: dict[str, Any] = {"fontsize": "small", "color": ".35"}
REFERENCE: dict[str, Any] = {"color": ".35", "lw": 1, "ls": (0, (4, 2)), "zorder": 1.5}
WIDTH = 7.5  # inches, of a page
LETTER, LINE = 0.09, 0.18  # inches: a typical letter, and a line of text, of a legend
MOST_LETTERS = 500  # of a name or value of the user's
PLAIN, PLAIN_DECADES = (1e-3, 1e5), 5  # beyond, powers of ten


class NoDataError(AnalysisError):
    """The data have nothing that a figure shows; `draw` leaves it out."""


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in this style, without changing matplotlib's settings."""

    @functools.wraps(draw)
    def within(*arguments: P.args, **named: P.kwargs) -> R:
        with mpl.rc_context(STYLE):
            return draw(*arguments, **named)

    return within


def new_figure(title: str, height: float, width: float = WIDTH) -> Figure:
    """An empty figure with a title, laid out so that nothing overlaps; sizes in inches."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.05, hspace=0.05))
    if title:
        figure.suptitle(plain(title), x=0.01, ha="left")
    return figure


def panels(
    title: str, count: int, height: float, columns: int = 2, x: str = "", y: str = "", **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, `height` inches high, in rows of at most `columns`; `x` and `y` label the outer."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = new_figure(title, 0.4 + rows * height)
    each = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for empty in each[count:]:
        empty.remove()
    for lowest in each[count - columns : count]:
        lowest.xaxis.set_tick_params(labelbottom=True)
        lowest.set_xlabel(x)
    for first in each[:count:columns]:
        first.set_ylabel(y)
    return figure, each[:count]


def legend_below(figure: Figure, handles: list[Any]) -> None:
    """A legend below all panels, in as many columns as fit, for which the figure grows."""
    width, key = figure.get_figwidth(), 0.5
    labels = [plain(str(handle.get_label()), int((width - key) / LETTER)) for handle in handles]
    longest = max((len(line) for label in labels for line in label.splitlines()), default=0)
    columns = max(1, min(len(handles), int(width / (longest * LETTER + key))))
    rows = -(-len(handles) // columns)
    lines = sum(max(label.count("\n") + 1 for label in labels[row::rows]) for row in range(rows))
    figure.set_figheight(figure.get_figheight() + 0.1 + LINE * lines)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def plain(text: str, letters: int | None = None) -> str:
    """Text of runs to be drawn as it is, in lines of so many letters: two dollar signs would make it a formula.

    Control characters are escapes, and what would fill the page is cut.
    """
    text = printable(shortened(text, MOST_LETTERS))
    return (text if letters is None else textwrap.fill(text, letters)).replace("$", r"\$")


def more_lines(titles: Iterable[str]) -> float:
    """The height in inches that a panel needs besides for the longest of some titles."""
    return LINE * max(title.count("\n") for title in titles)


def axis_name(metric: str, before: str = "", letters: int | None = None) -> str:
    """The label of a validation metric, as drawn: `validation PPL`, `best validation NLL (nats)`."""
    return plain(f"{before}validation {measure_name(metric)}{' (nats)' if metric == 'valid_nll' else ''}", letters)


def is_decade(values: pd.Series | np.ndarray) -> bool:
    """Whether the finite values are positive and span a decade."""
    found = _finite(values)
    return bool(len(found) and found.min() > 0 and found.max() >= 10 * found.min())


def _finite(values: pd.Series | np.ndarray) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    return found[np.isfinite(found)]


def log_axis(axis: Axis, lowest: float, highest: float) -> None:
    """A logarithmic axis with plain numbers, or powers of ten where those would be long or many."""
    axis._set_axes_scale("log")  # type: ignore[attr-defined]
    log_ticks(axis, lowest, highest)


def log_ticks(axis: Axis, lowest: float, highest: float) -> None:
    """The ticks of `log_axis`, on an axis that is logarithmic already."""
    decades = np.log10(highest / lowest)
    axis.set_minor_locator(NullLocator())
    subs = (1, 2, 5) if decades < 1.7 else (1, 3) if decades < 3 else (1,)
    if decades < PLAIN_DECADES:
        axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    if decades < PLAIN_DECADES and PLAIN[0] <= lowest and highest <= PLAIN[1]:
        axis.set_major_formatter("{x:g}")
    else:
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))


def scale(axis: Axis, values: pd.Series | np.ndarray) -> None:
    """A logarithmic axis for values that span a decade."""
    if is_decade(values):
        log_axis(axis, _finite(values).min(), _finite(values).max())


def color_scale(values: pd.Series | np.ndarray) -> Normalize:
    """From values to 0..1 or to colours, logarithmic for values that span a decade."""
    return (LogNorm if is_decade(values) else Normalize)(_finite(values).min(), _finite(values).max())


def result_bar(figure: Figure, axes: Axes, norm: Normalize, metric: str, **layout: Any) -> None:
    """A colour bar of the best values of a validation metric."""
    bar = figure.colorbar(ScalarMappable(norm, COLOR_MAP), ax=axes, label=axis_name(metric, "best "), **layout)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.minorticks_off()


def whole_numbers(axis: Axis, values: pd.Series | np.ndarray) -> None:
    """As `scale`, with ticks at whole numbers only."""
    scale(axis, values)
    if not is_decade(values):
        axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def few_ticks(axis: Axis) -> None:
    """Few round ticks on a linear axis, for a small panel."""
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def ticks(axis: Axis, labels: list[str], most: int = 16) -> None:
    """Ticks at 0, 1, 2, ... with labels, evenly thinned where there are too many."""
    every = -(-len(labels) // most)
    axis.set_major_locator(FixedLocator(list(range(0, len(labels), every))))
    axis.set_ticklabels(labels[::every])


def outlined(width: float = 2.5) -> list[patheffects.AbstractPathEffect]:
    """A dark edge, so that white is visible on any colour."""
    return [patheffects.Stroke(linewidth=width, foreground="black"), patheffects.Normal()]


def edges(centres: np.ndarray) -> np.ndarray:
    """Edges of cells around sorted centres: midway between two, and as far beyond the ends."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
