"""Which learning rate goes with which truncation: a heat map of best results."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.empty import NoDataError
from analysis.figures.outcomes import outcomes
from analysis.figures.style import ACCENT, COLOR_MAP, WIDTH, axis_name, is_decade, new_figure, styled, ticks
from analysis.statistics import format_value, validation_metrics
from atbptt.errors import unknown

KINDS = {"K": ("fixed", "truncation K (steps)"), "delta": ("adaptive", "allowed relative bias delta")}
CELL = 0.72, 0.42  # inches: of a value with four digits
MOST_WRITTEN = 12  # columns: with more, cells get too narrow for a value


@styled
def tuning(frame: pd.DataFrame, title: str, against: str = "K", metric: str | None = None) -> Figure:
    """Best validation, mean over init, by learning rate and K (of fixed policies) or delta (of adaptive ones).

    Where other options vary too, a cell has the best over these. The best cell has a frame. Runs that diverged do not
    count: a cell says how many, and has no colour if all did.

    Arguments:
        frame: as from `load`, of one dataset.
        title: written above.
        against: `K` or `delta`.
        metric: a validation metric; by default that of most runs.

    Raises:
        NoDataError: fewer than two learning rates or two values of K (delta), or all runs diverged.
        AnalysisError: `against` is something else.
    """
    if against not in KINDS:
        raise unknown("against", against, list(KINDS))
    metric = metric or validation_metrics(frame).mode()[0]
    kind, name = KINDS[against]
    table = outcomes(frame, metric)
    table = table[(table["kind"] == kind) & table["lr"].notna() & table[against].notna()]
    rates, values = np.sort(table["lr"].unique()), np.sort(table[against].unique())
    if min(len(rates), len(values)) < 2 or not table["best"].notna().any():
        raise NoDataError(f"fewer than two learning rates or two values of {against} that did not diverge")
    cells = table.drop_duplicates(["lr", against]).set_index(["lr", against])  # sorted: the best of each
    lost = table.groupby(["lr", against])[["diverged", "runs"]].sum()

    best = cells["best"]
    norm = (LogNorm if is_decade(best) else Normalize)(best.min(), best.max())
    figure = new_figure(title, max(1.6 + CELL[1] * len(rates), 2.2), min(max(2.2 + CELL[0] * len(values), 3.8), WIDTH))
    axes = figure.subplots()
    grid = np.full((len(rates), len(values)), np.nan)
    for (row, rate), (column, value) in ((one, other) for one in enumerate(rates) for other in enumerate(values)):
        if (rate, value) in cells.index:
            grid[row, column] = best[rate, value]
            if len(values) <= MOST_WRITTEN:
                shade = float(norm(grid[row, column])) if np.isfinite(grid[row, column]) else None
                _write(axes, row, column, grid[row, column], lost.loc[(rate, value)], shade)
    axes.set_facecolor(".93")
    mesh = axes.pcolormesh(
        np.arange(len(values) + 1) - 0.5, np.arange(len(rates) + 1) - 0.5, grid,
        norm=norm, cmap=COLOR_MAP, edgecolors="white", lw=1,
    )  # fmt: skip
    corner = np.array(np.unravel_index(np.nanargmin(grid), grid.shape)) - 0.5
    axes.add_patch(Rectangle((corner[1], corner[0]), 1, 1, fill=False, ec=ACCENT, lw=3, clip_on=False, zorder=4))
    ticks(axes.xaxis, [format_value(float(value)) for value in values])
    ticks(axes.yaxis, [format_value(float(rate)) for rate in rates])
    axes.set_xlabel(name)
    axes.set_ylabel("learning rate")
    axes.grid(visible=False)
    bar = figure.colorbar(mesh, ax=axes, label=f"best {axis_name(metric)}", pad=0.02)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.minorticks_off()
    return figure


def _write(axes: Axes, row: int, column: int, value: float, lost: pd.Series, shade: float | None) -> None:
    diverged, runs = int(lost["diverged"]), int(lost["runs"])
    note = "" if not diverged else "diverged" if diverged == runs else f"\n{diverged} of {runs} diverged"
    text = note if shade is None else f"{value:#.4g}".rstrip(".") + note
    color = "black" if shade is None or shade > 0.5 else "white"
    axes.text(column, row, text, ha="center", va="center", color=color, fontsize="x-small" if note else "small")
