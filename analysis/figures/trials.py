"""The trials of a search: their values in order, and against each searched option."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..loading import Search
from ..statistics import natural
from . import style

SIZE = 22  # of a point, in points squared
MARGIN = 0.04  # of an axis, beyond the searched range
LARGEST = 1e300  # value of a trial; an axis of larger ones would be endless
JUST_ABOVE = 1.03  # of the axes' height, where failed trials are marked


@style.styled
def trials(search: Search, title: str) -> Figure:
    """The value of each finished trial, and the best so far; then the values against each searched option.

    Later trials are brighter, the best one is framed; crosses above the axes are trials that failed, or whose value is
    beyond any axis.

    Raises:
        NoDataError: no trial has finished.
    """
    record = search.record
    rows = pd.DataFrame([(each.number, each.value) for each in record.over], columns=["trial", "value"])
    rows = rows.astype({"value": float})
    rows["value"] = rows["value"].where(rows["value"].abs() <= LARGEST)
    if not rows["value"].notna().any():
        raise style.NoDataError("no trial has finished")
    y = style.axis_name(record.metric)
    figure, each = style.panels(title, 1 + len(record.space), 2.3, y=y, sharey=True)
    each[0].step(rows["trial"], rows["value"].cummin().ffill(), where="post", color=style.REFERENCE["color"], lw=1.5)
    each[0].set_xlabel("trial")
    _points(each[0], rows, rows["trial"])
    each[0].set_xlim(-0.5, len(rows) - 0.5)
    each[0].xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    for axes, (name, dimension) in zip(each[1:], record.space.items(), strict=True):
        axes.set_xlabel(style.plain(name))
        chosen = pd.Series([each.params[name] for each in record.over])
        if dimension.choices:
            levels = sorted(chosen.unique(), key=natural)
            _points(axes, rows, chosen.map(levels.index))
            style.ticks(axes.xaxis, [style.plain(level) for level in levels])
            axes.set_xlim(-0.5, len(levels) - 0.5)
            continue
        _points(axes, rows, chosen.astype(float))
        low, high = dimension.low, dimension.high
        if dimension.log:
            style.log_axis(axes.xaxis, low, high)
        room = (high / low) ** MARGIN if dimension.log else MARGIN * (high - low)
        axes.set_xlim((low / room, high * room) if dimension.log else (low - room, high + room))
    style.scale(each[0].yaxis, rows["value"])
    return figure


def _points(axes: Axes, rows: pd.DataFrame, x: pd.Series) -> None:
    """Draw the trials at these places."""
    lost, values, places = rows["value"].isna().to_numpy(), rows["value"].to_numpy(), x.to_numpy()
    axes.scatter(places[~lost], values[~lost], s=SIZE, c=rows["trial"].to_numpy()[~lost], zorder=2)
    best = np.nanargmin(values)
    axes.scatter(places[best], values[best], s=3 * SIZE, facecolor="none", edgecolor=style.ACCENT, zorder=3)
    above = axes.get_xaxis_transform()
    heights = np.full(lost.sum(), JUST_ABOVE)
    axes.scatter(places[lost], heights, s=SIZE, marker="x", color=".35", transform=above, clip_on=False)
