"""The figure of the comparison: how much worse each policy is than the best fixed K, task by task."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.statistics import is_perplexity, natural
from analysis.tables import measure_name
from benchmarks.comparison.comparing import Comparison

MARKERS = {"tf": "o", "original-buffer": "s"}
ROW = 0.22  # inches
WIDTH = 11.0  # of two columns, whose labels are long
WIDEST = 3.0  # an interval ends at so many times the third quartile of what is shown, so that the rest can be seen


@style.styled
def differences(found: Sequence[Comparison]) -> Figure:
    """A panel a task: the difference in test value from the best fixed K after equal time, with its interval.

    The other fixed lengths are left out. Intervals far longer than the others are cut.
    """
    titles = [*dict.fromkeys(each.title for each in found)]
    by_title = [[each for each in found if each.title == title] for title in titles]
    policies = [sorted({name for each in own for name in _shown(each).index}, key=natural) for own in by_title]
    height = 0.7 + ROW * max(len(names) for names in policies)
    title = "Test value against the best fixed K, after equal processor time: to the right is worse"
    figure, panels = style.panels(title, len(titles), height)
    if len(titles) > 1:
        figure.set_figwidth(WIDTH)
    for own, names, axes in zip(by_title, policies, panels, strict=True):
        for each in own:
            _draw(axes, each, names[::-1])
        axes.axvline(0, **style.REFERENCE)
        axes.set_title(own[0].title)
        unit = " (%)" if is_perplexity(own[0].metric) else ""
        axes.set_xlabel(f"difference in test {measure_name(own[0].metric)}{unit}")
        axes.set_yticks(range(len(names)), names[::-1])
        axes.set_ylim(-0.6, len(names) - 0.4)
        ends = np.concatenate([[0.0], *(_values(each)[:, 1:].ravel() for each in own)])
        edge = WIDEST * np.nanquantile(np.abs(ends), 0.75)
        low, high = max(np.nanmin(ends), -edge), min(np.nanmax(ends), edge)
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    keys = [Line2D([], [], color=_color(scheme), marker=MARKERS[scheme], ms=4, label=scheme) for scheme in MARKERS]
    style.legend_below(figure, keys)
    return figure


def _draw(axes: Axes, found: Comparison, names: Sequence[str]) -> None:
    values, color = _values(found), _color(found.scheme)
    at = np.array([names.index(name) for name in _shown(found).index]) + (0.17 if found.scheme == "tf" else -0.17)
    axes.hlines(at, values[:, 1], values[:, 2], color=color, lw=1.5)
    axes.plot(values[:, 0], at, MARKERS[found.scheme], color=color, ms=4)


def _shown(found: Comparison) -> pd.DataFrame:
    return found.pairs[~found.pairs.index.str.startswith("fixed")]


def _values(found: Comparison) -> np.ndarray:
    """Mean and ends of the interval, (policies, 3); of perplexities in percent."""
    values = _shown(found)[[f"test_{part}" for part in ("mean", "low", "high")]].to_numpy(float)
    return 100 * np.expm1(values) if is_perplexity(found.metric) else values


def _color(scheme: str) -> Any:
    return style.COLORS[[*MARKERS].index(scheme)]
