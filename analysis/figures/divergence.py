"""Values of diverged runs are cut off, and counted above the axis."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..statistics import ID
from .style import NOTE, scale

CUT_NATS = float(np.log(5))


def limit(values: pd.DataFrame, perplexity: bool) -> float:
    """The value above which an axis ends: log 5 nats (a factor of 5 in PPL) above the first evaluations.

    The lower of two medians over runs counts: of the first evaluations, and of the first after training began, by when
    half of the runs may have diverged. Minus infinity if no value is finite.
    """
    finite = values[np.isfinite(values["value"])].sort_values("step")
    if finite.empty:
        return -float("inf")
    starts = [rows.groupby(ID, observed=True)["value"].first().median() for rows in (finite, trained(finite))]
    return float(min(starts) * np.exp(CUT_NATS) if perplexity else min(starts) + CUT_NATS)


def highest(values: pd.DataFrame, perplexity: bool) -> float:
    """The highest value after training began up to the limit; minus infinity if there is none."""
    own = trained(values)["value"]
    inside = own[own <= limit(values, perplexity)]
    return -float("inf") if inside.empty else float(inside.max())


def trained(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows after the first training step, or all if there are none."""
    after = rows["step"] > 0
    return rows[after] if after.any() else rows


def end_axis(axes: Axes, values: pd.DataFrame, top: float) -> None:
    """End the vertical axis, perhaps shared, just above `top`, and count the runs with values beyond it."""
    inside = values.loc[values["value"] <= top, "value"]
    shared = axes.get_shared_y_axes().get_siblings(axes)
    for each in shared:
        scale(each.yaxis, inside)
    beyond = values.loc[~(values["value"] <= top), ID].nunique()  # NaN too
    if not beyond:
        return
    runs = f"{beyond} of {values[ID].nunique()} runs"
    if not np.isfinite(top):
        axes.set_title(f"no finite value: {runs}", loc="left", **NOTE)
        return
    low = inside.min()
    margin = 0.05 * (top - low or abs(top))
    for each in shared:
        each.set_ylim(low / 1.05 if each.get_yscale() == "log" else low - margin, top + margin)
    axes.set_title(f"{runs} above {top + margin:.3g} or NaN", loc="left", **NOTE)
