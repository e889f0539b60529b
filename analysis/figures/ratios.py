"""How fast the gradient vanishes from lag to lag: ratios of successive phi."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.divergence import trained
from analysis.figures.runs import Names, by_step, run_panels
from analysis.figures.style import ACCENT, COLORS, REFERENCE, NoDataError, legend_below, scale, styled
from analysis.statistics import ID

MOST_BOXES = 20
NOISE = 1e-22  # of the largest phi: no signal, as in the fit of the decay
WHISKERS = (5, 95)  # percent
WIDTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of a bin, lags


@styled
def lag_ratios(positions: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """Box plots of phi_{k+1} / phi_k by lag, over loss positions, probes and evaluations after training began.

    Boxes are quartiles, whiskers reach from the 5 % to the 95 % quantile; many lags are binned. Lines at 1, and at the
    beta of the fitted decay (median over evaluations).

    Arguments and errors as in `position_maps`.
    """
    ratios = {run: successive_ratios(trained(rows)) for run, rows in positions.groupby(ID, sort=False, observed=True)}
    ratios = {run: found for run, found in ratios.items() if len(found)}
    if not ratios:
        raise NoDataError("no two successive lags have a gradient")
    most = max(found["lag"].max() for found in ratios.values())
    width = next((width for width in WIDTHS if most <= width * MOST_BOXES), WIDTHS[-1])
    x = "lag k (steps)" + (f", in bins of {width}" if width > 1 else "")
    shown = positions[positions[ID].isin(list(ratios))]
    options = {"x": x, "y": "phi ratio, k+1 to k", "sharex": True, "sharey": True}
    figure, each = run_panels(shown, frame, title, names, 2.5, **options)
    color = {"color": COLORS[0]}
    ends, fitted = [], False
    for run, axes in each.items():
        bins = dict(list(ratios[run].groupby((ratios[run]["lag"] - 1) // width)["ratio"]))
        axes.boxplot(
            list(bins.values()),
            positions=[number * width + (width + 1) / 2 for number in bins],
            widths=0.7 * width,
            whis=WHISKERS,
            showfliers=False,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": (*COLORS[0], 0.25), "edgecolor": COLORS[0]},
            medianprops=color | {"lw": 1.6},
            whiskerprops=color,
            capprops=color,
        )
        ends += [np.percentile(box, WHISKERS) for box in bins.values()]
        axes.axhline(1, **REFERENCE)
        log_beta = by_step(frame, run, "log_beta")
        log_beta = log_beta[np.isfinite(log_beta) & ((log_beta.index > 0) | (log_beta.index.max() == 0))]
        if len(log_beta):
            fitted = True
            axes.axhline(float(np.exp(log_beta.median())), color=ACCENT, lw=1.4, zorder=2.5)
    for axes in each.values():
        scale(axes.yaxis, np.concatenate(ends))
    if fitted:
        legend_below(figure, [Line2D([], [], color=ACCENT, lw=1.4, label="beta of the fitted decay")])
    return figure


def successive_ratios(positions: pd.DataFrame) -> pd.DataFrame:
    """`lag` k and `ratio` phi_{k+1} / phi_k for every two successive lags of one run that both carry a signal."""
    keys = ["step", "replicate", "position"]
    rows = positions.sort_values([*keys, "lag"], kind="stable")
    # NaN carries no signal, nor does a tiny share of a profile's largest phi.
    phi = rows["phi"].where(rows["phi"] > NOISE * rows.groupby(keys)["phi"].transform("max"))
    following = phi.shift(-1).where(
        (rows[[*keys, "lag"]].shift(-1) == rows[[*keys, "lag"]].assign(lag=rows["lag"] + 1)).all(axis=1)
    )
    return pd.DataFrame({"lag": rows["lag"], "ratio": following / phi}).dropna().reset_index(drop=True)
