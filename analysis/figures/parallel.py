"""A whole sweep at a glance: parallel coordinates."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.figures.style import (
    COLOR_MAP,
    NOTE,
    WIDTH,
    NoDataError,
    color_scale,
    new_figure,
    plain,
    result_bar,
    styled,
)
from analysis.figures.tuning import outcomes
from analysis.statistics import format_value, natural, options_of, settings, validation_metrics

MOST_LEVELS = 12  # written values of an option; more numbers make a continuous axis
SPREAD = 0.5  # of the lines through one value, as a share of the distance between two values
LETTERS = 20  # in a line of a value: as many as fit between two axes
CURVE = 24  # points of a line between two axes


@styled
def parallel(frame: pd.DataFrame, title: str, metric: str | None = None) -> Figure:
    """Every setting as a line through an axis per varying option, to its result: best validation, mean over init.

    Colour and the last axis are the result; the best settings are drawn on top. Lines through one value of an option
    are spread in the order of their results, the best lowest. Settings all of whose runs diverged are only counted.

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
    norm = color_scale(best)
    places.append(np.full(len(best), 0.5) if norm.vmin == norm.vmax else np.asarray(norm(best), float))
    curves = list(_curves(np.stack(places, axis=1)))
    lines = LineCollection(curves, array=best, cmap=COLOR_MAP, norm=norm, lw=1.6, alpha=0.85, zorder=2)
    axes.add_collection(lines)
    _axis(axes, len(names), "")
    result_bar(figure, axes, norm, metric, pad=0.0, aspect=30)
    if lost:
        axes.text(0, -0.09, f"{lost} of {lost + len(table)} settings diverged and are left out", **NOTE)
    return figure


def _option(axes: Axes, number: int, values: pd.Series, name: str) -> np.ndarray:
    """Draw the axis of an option with its values; returns where each setting's line crosses it, from 0 to 1."""
    _axis(axes, number, name)
    texts = values.map(format_value).astype(str)
    levels = sorted(texts.unique(), key=natural)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and len(levels) > MOST_LEVELS:
        found = values.astype(float).to_numpy(na_value=np.nan)
        norm = color_scale(found)
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
