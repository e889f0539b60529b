"""The results of a sweep by learning rate and truncation: a heat map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.divergence import diverged
from analysis.figures.style import (
    ACCENT,
    COLOR_MAP,
    WIDTH,
    NoDataError,
    color_scale,
    new_figure,
    result_bar,
    styled,
    ticks,
)
from analysis.statistics import ID, best_validation, format_value, labels, options_of, policies, settings
from analysis.statistics import validation_metrics
from atbptt.errors import unknown

KINDS = {"K": ("fixed", "truncation K (steps)"), "delta": ("adaptive", "allowed relative bias delta")}
CELL = 0.72, 0.42  # inches: of a value with four digits
MOST_WRITTEN = 12  # columns: with more, cells are too narrow for a value


@styled
def tuning(frame: pd.DataFrame, title: str, against: str = "K", metric: str | None = None) -> Figure:
    """Best validation, mean over init, by learning rate and K (of fixed policies) or delta (of adaptive ones).

    Where other options vary too, a cell has the best over these. The best cell has a frame. A cell counts its diverged
    runs, which are left out of its mean, and is grey if all diverged.

    Arguments:
        frame: as from `load`, of one dataset.
        title: written above.
        against: `K` or `delta`.
        metric: a validation metric; by default that of most runs.

    Raises:
        NoDataError: fewer than two learning rates or two values of K (delta), or all runs diverged.
        AnalysisError: unknown `against`.
    """
    if against not in KINDS:
        raise unknown("against", against, list(KINDS))
    metric = metric or validation_metrics(frame).mode()[0]
    kind, name = KINDS[against]
    table = outcomes(frame, metric)
    table = table[(table["kind"] == kind) & table["lr"].notna() & table[against].notna()]
    groups = table.groupby([against, "lr"])  # the best comes first in each
    cells = groups[["diverged", "runs"]].sum().assign(best=groups["best"].first())
    grid = cells["best"].unstack(against)
    if min(grid.shape) < 2 or not cells["best"].notna().any():
        raise NoDataError(f"fewer than two learning rates or two values of {against} that did not diverge")

    rates, lengths = grid.index, grid.columns
    norm = color_scale(cells["best"])
    figure = new_figure(title, max(1.6 + CELL[1] * len(rates), 2.2), min(max(2.2 + CELL[0] * len(lengths), 3.8), WIDTH))
    axes = figure.subplots()
    for cell in cells.reset_index().to_dict("records") if len(lengths) <= MOST_WRITTEN else []:
        best, lost, runs = cell["best"], int(cell["diverged"]), int(cell["runs"])
        note = "" if not lost else "diverged" if lost == runs else f"\n{lost} of {runs} diverged"
        text = note if np.isnan(best) else f"{best:#.4g}".rstrip(".") + note
        color = "black" if np.isnan(best) or norm(best) > 0.5 else "white"
        place = lengths.get_loc(cell[against]), rates.get_loc(cell["lr"])
        size = "x-small" if note else "small"
        axes.text(*place, text, ha="center", va="center", color=color, fontsize=size)
    axes.set_facecolor(".93")
    edges = np.arange(len(lengths) + 1) - 0.5, np.arange(len(rates) + 1) - 0.5
    axes.pcolormesh(*edges, grid.to_numpy(), norm=norm, cmap=COLOR_MAP, edgecolors="white", lw=1)
    row, column = np.unravel_index(np.nanargmin(grid), grid.shape)
    place = float(column) - 0.5, float(row) - 0.5
    axes.add_patch(Rectangle(place, 1, 1, fill=False, ec=ACCENT, lw=3, clip_on=False, zorder=4))
    ticks(axes.xaxis, [format_value(float(value)) for value in lengths])
    ticks(axes.yaxis, [format_value(float(rate)) for rate in rates])
    axes.set_xlabel(name)
    axes.set_ylabel("learning rate")
    axes.grid(visible=False)
    result_bar(figure, axes, norm, metric, pad=0.02)
    return figure


def outcomes(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The result of each setting of one dataset, best first.

    Arguments:
        frame: as from `load`.
        metric: the validation metric.

    Returns:
        A row per setting: `setting` (label), `policy` (`fixed K=5`), `kind` (`fixed`), the options in `settings`, and
        `lr`, `K`, `delta`; `runs`, `diverged` (see `divergence.diverged`), `best` (mean best validation of the other
        runs; NaN if none is left).
    """
    options = options_of(frame)
    table = options[[ID, *settings(options)]].assign(policy=policies(options).astype(str))
    table["kind"] = table["policy"].str.split(" ", n=1).str[0]
    for name, column in {"lr": "lr", "K": "truncation.K", "delta": "truncation.delta"}.items():
        table[name] = options[column].astype(float) if column in options else np.nan
    shared = [name for name in table if name != ID]
    values = frame.loc[frame["metric"] == metric, [ID, "step", "metric", "epoch", "replicate", "value"]]
    table["diverged"] = table[ID].isin(diverged(values, perplexity=metric == "valid_ppl"))
    best = best_validation(values, metric).set_index(ID)["valid"]
    table["best"] = table[ID].map(best).where(~table["diverged"])
    how = {name: (name, "first") for name in shared} | {"diverged": ("diverged", "sum"), "best": ("best", "mean")}
    found = table.groupby(labels(options), sort=False).agg(runs=(ID, "size"), **how)
    return found.reset_index().sort_values("best", kind="stable", ignore_index=True)
