"""How fast the gradient vanishes from lag to lag: ratios of successive phi."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.divergence import trained
from analysis.figures.empty import NoDataError
from analysis.figures.runs import Names, by_step, named
from analysis.figures.style import ACCENT, COLORS, REFERENCE, legend_below, more_lines, panels, scale, styled
from analysis.statistics import ID

MOST_BOXES = 20
NOISE = 1e-22  # of the largest phi: no signal, as in the fit of the decay
WHISKERS = (5, 95)  # percent
WIDTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of a bin, lags


@styled
def lag_ratios(positions: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """Box plots of phi_{k+1} / phi_k by lag, over loss positions, probes and evaluations after training began.

    Boxes are quartiles, whiskers reach from the 5 % to the 95 % quantile; lags are taken together in bins where there
    are many. Lines at 1, and at the beta of the fitted decay (median over evaluations).

    Arguments and errors as in `position_maps`.
    """
    runs = named(positions, frame, names)
    found = {run: successive_ratios(trained(positions[positions[ID] == run])) for run in runs}
    found = {run: ratios for run, ratios in found.items() if len(ratios)}
    if not found:
        raise NoDataError("no two successive lags have a gradient")
    most = max(ratios["lag"].max() for ratios in found.values())
    width = next((width for width in WIDTHS if most <= width * MOST_BOXES), WIDTHS[-1])
    figure, each = panels(title, len(found), 2.5 + more_lines(runs.values()), sharex=True, sharey=True)
    ends, fitted = [], False
    for axes, (run, ratios) in zip(each, found.items(), strict=True):
        bins = [group for _, group in ratios.groupby((ratios["lag"] - 1) // width)]
        places = [(group["lag"].iloc[0] - 1) // width * width + (width + 1) / 2 for group in bins]
        boxes = [group["ratio"].to_numpy() for group in bins]
        axes.boxplot(
            boxes,
            positions=places,
            widths=0.7 * width,
            whis=WHISKERS,
            showfliers=False,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": (*COLORS[0], 0.25), "edgecolor": COLORS[0]},
            medianprops={"color": COLORS[0], "lw": 1.6},
            whiskerprops={"color": COLORS[0]},
            capprops={"color": COLORS[0]},
        )
        ends += [np.percentile(box, WHISKERS) for box in boxes]
        axes.axhline(1, **REFERENCE)
        log_beta = by_step(frame, run, "log_beta")
        log_beta = log_beta[np.isfinite(log_beta) & ((log_beta.index > 0) | (log_beta.index.max() == 0))]
        if len(log_beta):
            fitted = True
            axes.axhline(float(np.exp(log_beta.median())), color=ACCENT, lw=1.4, zorder=2.5)
        axes.set_title(runs[run])
    for axes in each:
        scale(axes.yaxis, np.concatenate(ends))
    for axes in each[::2]:
        axes.set_ylabel("phi ratio, k+1 to k")
    for axes in each[-2:]:
        axes.set_xlabel("lag k (steps)" + (f", in bins of {width}" if width > 1 else ""))
    if fitted:
        legend_below(figure, [Line2D([], [], color=ACCENT, lw=1.4, label="beta of the fitted decay")])
    return figure


def successive_ratios(positions: pd.DataFrame) -> pd.DataFrame:
    """`lag` k and `ratio` phi_{k+1} / phi_k for every two successive lags of one run that both carry a signal."""
    keys = ["step", "replicate", "position"]
    rows = positions.sort_values([*keys, "lag"], kind="stable")
    # Less than this of a profile's largest is no signal, and not a number is none either.
    phi = rows["phi"].where(rows["phi"] > NOISE * rows.groupby(keys)["phi"].transform("max"))
    following = phi.shift(-1).where(
        (rows[[*keys, "lag"]].shift(-1) == rows[[*keys, "lag"]].assign(lag=rows["lag"] + 1)).all(axis=1)
    )
    return pd.DataFrame({"lag": rows["lag"], "ratio": following / phi}).dropna().reset_index(drop=True)
