"""A whole sweep at a glance: parallel coordinates."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from analysis.figures.empty import NoDataError
from analysis.figures.outcomes import outcomes
from analysis.figures.style import COLOR_MAP, NOTE, WIDTH, axis_name, is_decade, new_figure, plain, styled
from analysis.statistics import format_value, natural, options_of, settings, validation_metrics

MOST_LEVELS = 12  # of an option that are written; more numbers make an axis of numbers
SPREAD = 0.5  # of the distance between two values, over which the lines through one are spread
LETTERS = 20  # in a line of a value: as many as fit between two axes
CURVE = 24  # points of a line between two axes


@styled
def parallel(frame: pd.DataFrame, title: str, metric: str | None = None) -> Figure:
    """Every setting as a line through an axis per varying option, to its result: best validation, mean over init.

    Colour and the last axis are the result; the best settings lie on top. At a value of an option its lines are spread
    in the order of their results, the best lowest. Settings all of whose runs diverged are left out, and counted.

    Arguments:
        frame: as from `load`, of one dataset.
        title: written above.
        metric: a validation metric; by default that of most runs.

    Raises:
        NoDataError: fewer than two options vary (the policy counts as one), or all runs diverged.
    """
    metric = metric or validation_metrics(frame).mode()[0]
    table = outcomes(frame, metric)
    names = [name for name in settings(options_of(frame)) if name in table]
    names = (["policy"] if len(table["policy"].unique()) > 1 else []) + names
    lost = int(table["best"].isna().sum())
    table = table[table["best"].notna()].iloc[::-1]  # the best is drawn last
    if len(names) < 2 or table.empty:
        raise NoDataError("fewer than two options vary among settings that did not diverge")

    figure = new_figure(title, 3.8, max(WIDTH, 1.3 * len(names)))
    axes = figure.subplots()
    axes.set_xlim(0, len(names))
    axes.set_ylim(-0.03, 1.03)
    axes.axis("off")
    places = [_option(axes, number, table[name], name) for number, name in enumerate(names)]
    best = table["best"].to_numpy(float)
    norm = (LogNorm if is_decade(best) else Normalize)(best.min(), best.max())
    places.append(np.full(len(best), 0.5) if norm.vmin == norm.vmax else np.asarray(norm(best), float))
    lines = LineCollection(
        list(_curves(np.stack(places, axis=1))), cmap=COLOR_MAP, norm=norm, lw=1.6, alpha=0.85, zorder=2
    )
    lines.set_array(best)
    axes.add_collection(lines)
    _axis(axes, len(names), "")
    bar = figure.colorbar(ScalarMappable(norm, COLOR_MAP), ax=axes, pad=0.0, aspect=30)
    bar.set_label(f"best {axis_name(metric)}")
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.minorticks_off()
    if lost:
        axes.text(0, -0.09, f"{lost} of {lost + len(table)} settings diverged and are left out", **NOTE)
    return figure


def _option(axes: Axes, number: int, values: pd.Series, name: str) -> np.ndarray:
    """Draw the axis of an option with its values; returns where each setting's line crosses it, from 0 to 1."""
    levels = values.drop_duplicates()
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    _axis(axes, number, name)
    if numeric and len(levels) > MOST_LEVELS:
        found = values.astype(float).to_numpy(na_value=np.nan)
        ends = float(np.nanmin(found)), float(np.nanmax(found))
        norm = (LogNorm if is_decade(found) else Normalize)(*ends)
        for place, value in enumerate(ends):
            _label(axes, number, place, f"{value:.3g}")
        return np.where(np.isnan(found), 0.0, np.asarray(norm(found), float))
    texts = values.map(format_value).astype(str)
    order = sorted(texts.unique(), key=natural)
    gap = 1 / max(len(order), 1)
    places = np.empty(len(texts))
    every = -(-len(order) // MOST_LEVELS)
    for level, text in enumerate(order):
        own = np.flatnonzero(texts.to_numpy() == text)[::-1]  # the best first
        offsets = np.linspace(-0.5, 0.5, len(own)) if len(own) > 1 else np.zeros(1)
        centre = (level + 0.5) * gap
        places[own] = centre + SPREAD * gap * offsets
        if level % every == 0:
            _label(axes, number, centre, text)
    return places


def _axis(axes: Axes, number: int, name: str) -> None:
    axes.plot([number, number], [0, 1], color=".3", lw=1, zorder=3)
    axes.text(number, 1.03, plain(name.replace(".", ".\n")), ha="center", va="bottom")


def _label(axes: Axes, number: int, place: float, text: str) -> None:
    text = plain(textwrap.fill(text, LETTERS))
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
