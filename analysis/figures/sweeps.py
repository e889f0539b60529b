"""All settings of a sweep and their results: a heat map, and parallel coordinates."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from atbptt.errors import unknown

from .. import statistics
from . import style

KINDS = {"K": ("fixed", "truncation K (steps)"), "delta": ("adaptive", "allowed relative bias delta")}
CELL = 0.72, 0.42  # inches: of a value with four digits
MOST_WRITTEN = 12  # columns: with more, cells are too narrow for a value
MOST_LEVELS = 12  # written values of an option; more numbers make a continuous axis
SPREAD = 0.5  # of the lines through one value, as a share of the distance between two values
LETTERS = 20  # in a line of a value: as many as fit between two axes
CURVE = 24  # points of a line between two axes


@style.styled
def tuning(frame: pd.DataFrame, title: str, against: str = "K", metric: str | None = None) -> Figure:
    """Best validation, mean over init, by learning rate and K (of fixed policies) or delta (of adaptive ones).

    Where other options vary too, a cell has the best over these. The best cell has a frame. A cell counts its lost runs
    (failed, unfinished or diverged), which are left out of its mean, and is grey if all are.

    Arguments:
        frame: as from `load`, of one dataset.
        title: written above.
        against: `K` or `delta`.
        metric: a validation metric; by default that of most runs.

    Raises:
        NoDataError: fewer than two learning rates or two values of K (delta), or all runs are lost.
        AnalysisError: unknown `against`.
    """
    if against not in KINDS:
        raise unknown("against", against, list(KINDS))
    metric = metric or statistics.validation_metrics(frame).mode()[0]
    kind, name = KINDS[against]
    table = outcomes(frame, metric)
    table = table[(table["kind"] == kind) & table["lr"].notna() & table[against].notna()]
    groups = table.groupby(["lr", against])  # the best comes first in each
    cells = groups[["lost", "runs"]].sum().assign(best=groups["best"].first())
    grid = table.pivot_table("best", "lr", against, aggfunc="first", dropna=False)
    if min(grid.shape) < 2 or not cells["best"].notna().any():
        raise style.NoDataError(f"fewer than two learning rates or two values of {against} that are not lost")

    rates, lengths = grid.index, grid.columns
    norm = style.color_scale(cells["best"])
    figure = style.new_figure(
        title, max(1.6 + CELL[1] * len(rates), 2.2), min(max(2.2 + CELL[0] * len(lengths), 3.8), style.WIDTH)
    )
    axes = figure.subplots()
    for cell in cells.reset_index().to_dict("records") if len(lengths) <= MOST_WRITTEN else []:
        best, lost, runs = cell["best"], int(cell["lost"]), int(cell["runs"])
        note = "" if not lost else "lost" if lost == runs else f"\n{lost} of {runs} lost"
        text = note if np.isnan(best) else f"{best:#.4g}".rstrip(".") + note
        color = "black" if np.isnan(best) or norm(best) > 0.5 else "white"
        x, y = lengths.tolist().index(cell[against]), rates.tolist().index(cell["lr"])
        axes.text(x, y, text, ha="center", va="center", color=color, fontsize="x-small" if note else "small")
    axes.set_facecolor(".93")
    edges = np.arange(len(lengths) + 1) - 0.5, np.arange(len(rates) + 1) - 0.5
    axes.pcolormesh(*edges, grid.to_numpy(), norm=norm, cmap=style.COLOR_MAP, edgecolors="white", lw=1)
    row, column = np.unravel_index(np.nanargmin(grid), grid.shape)
    place = float(column) - 0.5, float(row) - 0.5
    axes.add_patch(Rectangle(place, 1, 1, fill=False, ec=style.ACCENT, lw=3, clip_on=False, zorder=4))
    style.ticks(axes.xaxis, [statistics.format_value(float(value)) for value in lengths])
    style.ticks(axes.yaxis, [statistics.format_value(float(rate)) for rate in rates])
    axes.set_xlabel(name)
    axes.set_ylabel("learning rate")
    axes.grid(visible=False)
    style.result_bar(figure, axes, norm, metric, pad=0.02)
    return figure


def outcomes(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The result of each setting of one dataset, best first.

    Columns: `setting` (label), `policy` (`fixed K=5`), `kind` (`fixed`), the options in `settings`, `lr`, `K`, `delta`;
    `runs`, `lost` (those that do not count, see `endings`, or diverged), `best` (mean best validation of the others;
    NaN if none is left).
    """
    options = statistics.options_of(frame)
    table = statistics.described(frame).astype({"policy": str})
    table["kind"] = table["policy"].str.split(" ", n=1).str[0]
    for name, column in {"lr": "lr", "K": "truncation.K", "delta": "truncation.delta"}.items():
        table[name] = pd.to_numeric(options[column], errors="coerce").astype(float) if column in options else np.nan
    shared = [name for name in table if name != statistics.ID]
    values = frame.loc[frame["metric"] == metric, [statistics.ID, "step", "metric", "epoch", "replicate", "value"]]
    endings = statistics.endings(frame, metric)
    kept = endings.loc[endings["counts"] & (endings["ending"] != statistics.DIVERGED), statistics.ID]
    table["lost"] = ~table[statistics.ID].isin(kept)
    best = statistics.best_validation(values, metric).set_index(statistics.ID)["valid"]
    table["best"] = table[statistics.ID].map(best).where(~table["lost"])
    how = {str(name): (name, "first") for name in shared} | {"lost": ("lost", "sum"), "best": ("best", "mean")}
    found = table.groupby(statistics.labels(options), sort=False).agg(runs=(statistics.ID, "size"), **how)
    return found.reset_index().sort_values("best", kind="stable", ignore_index=True)


@style.styled
def parallel(frame: pd.DataFrame, title: str, metric: str | None = None) -> Figure:
    """Every setting as a line through an axis per varying option, to its result: best validation, mean over init.

    Colour and the last axis are the result; the best settings are drawn on top. Lines through one value of an option
    are spread in the order of their results, the best lowest. Settings all of whose runs are lost are only counted.
    Arguments as in `tuning`.

    Raises:
        NoDataError: fewer than two options vary (the policy counts as one), or all runs are lost.
    """
    metric = metric or statistics.validation_metrics(frame).mode()[0]
    table = outcomes(frame, metric)
    names = [name for name in statistics.settings(statistics.options_of(frame)) if name in table]
    names = (["policy"] if len(table["policy"].unique()) > 1 else []) + names
    lost = int(table["best"].isna().sum())
    table = table[table["best"].notna()].iloc[::-1]  # the best is drawn last
    if len(names) < 2 or table.empty:
        raise style.NoDataError("fewer than two options vary among settings that are not lost")

    figure = style.new_figure(title, 3.8, max(style.WIDTH, 1.3 * len(names)))
    axes = figure.subplots()
    axes.set_xlim(0, len(names))
    axes.set_ylim(-0.03, 1.03)
    axes.axis("off")
    places = [_option(axes, number, table[name], name) for number, name in enumerate(names)]
    best = table["best"].to_numpy(float)
    norm = style.color_scale(best)
    places.append(np.full(len(best), 0.5) if norm.vmin == norm.vmax else np.asarray(norm(best), float))
    curves = list(_curves(np.stack(places, axis=1)))
    lines = LineCollection(curves, array=best, cmap=style.COLOR_MAP, norm=norm, lw=1.6, alpha=0.85, zorder=2)
    axes.add_collection(lines)
    _axis(axes, len(names), "")
    style.result_bar(figure, axes, norm, metric, pad=0.0, aspect=30)
    if lost:
        axes.text(0, -0.09, f"{lost} of {lost + len(table)} settings failed or diverged: left out", **style.NOTE)
    return figure


def _option(axes: Axes, number: int, values: pd.Series, name: str) -> np.ndarray:
    """Draw the axis of an option with its values; returns where each setting's line crosses it, from 0 to 1."""
    _axis(axes, number, name)
    texts = values.map(statistics.format_value).astype(str)
    levels = sorted(texts.unique(), key=statistics.natural)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and len(levels) > MOST_LEVELS:
        found = values.astype(float).to_numpy(na_value=np.nan)
        norm = style.color_scale(found)
        for place, value in ((0, norm.vmin), (1, norm.vmax)):
            _label(axes, number, place, f"{value:.3g}")
        return np.where(np.isnan(found), 0.0, np.asarray(norm(found), float))
    places = np.empty(len(texts))
    for level, text in enumerate(levels):
        own = np.flatnonzero(texts == text)[::-1]  # the best first
        offsets = np.linspace(-0.5, 0.5, len(own)) if len(own) > 1 else np.zeros(1)
        places[own] = (level + 0.5 + SPREAD * offsets) / len(levels)
        if level % -(-len(levels) // MOST_LEVELS) == 0:
            _label(axes, number, (level + 0.5) / len(levels), text)
    return places


def _axis(axes: Axes, number: int, name: str) -> None:
    axes.plot([number, number], [0, 1], color=".3", lw=1, zorder=3)
    axes.text(number, 1.03, style.plain(name.replace(".", ".\n")), ha="center", va="bottom")


def _label(axes: Axes, number: int, place: float, text: str) -> None:
    text = style.plain(text, LETTERS)
    if number == 0:
        axes.text(-0.015, place, text, ha="right", va="center", fontsize="small")
        return
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    axes.text(number + 0.015, place, text, va="center", fontsize="small", bbox=box, zorder=4)


def _curves(places: np.ndarray) -> np.ndarray:
    """Smooth lines (settings, points, 2) through the places (settings, axes): level at each axis."""
    across = np.linspace(0, 1, CURVE)
    ease = across * across * (3 - 2 * across)
    between = places[:, :-1, None] + (places[:, 1:, None] - places[:, :-1, None]) * ease  # (settings, axes - 1, CURVE)
    x = np.arange(places.shape[1] - 1)[:, None] + across
    y = between.reshape(len(places), -1)
    return np.stack([np.broadcast_to(x.ravel(), y.shape), y], axis=-1)
