"""Targets and predictions at the beginning of the test split, at a run's best evaluation."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..statistics import ID
from . import style
from .runs import Names, named

WIDE, BESIDE = (70, 70), (46, 46)  # letters of a title in a line: across the page, or beside another panel
MOST_SYMBOLS = 20  # more colours cannot be told apart
STRIP_STEPS = 50  # of a stream: as many as can be read
CURVE_STEPS = 100
STREAMS = 3
MOST_OUTPUTS = 20
VALUES = r"value\d*$"
DENSE = 3000  # points: more are counted in cells
HIT, MISS = style.COLORS[0], style.ACCENT
TARGET: dict[str, Any] = {"color": ".55", "marker": ".", "ms": 3, "lw": 0.9}
PREDICTED: dict[str, Any] = {"color": style.COLORS[1], "lw": 1.5}
CURVES = {"target": TARGET, "predicted": PREDICTED}
EVENTS = {
    "event predicted": {"color": HIT, "marker": ".", "ls": ""},
    "event missed": {"color": MISS, "marker": ".", "ls": ""},
}


@style.styled
def symbols(predictions: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """Target and predicted symbols as aligned strips, a colour and number per symbol; wrong ones are marked below.

    Arguments:
        predictions: as from `load_predictions`, of at most 4 runs.
        frame: as from `load`, with these runs at least.
        title: written above.
        names: `experiment_id` -> title of the run's panel; by default the run's setting.

    Raises:
        NoDataError: no symbols, or more than 20 different ones.
        AnalysisError: more than 4 runs.
    """
    rows = predictions[predictions["quantity"] == "symbol"]
    runs = named(rows, frame, names, WIDE)
    numbers = rows[["target", "predicted"]].to_numpy()
    odd = numbers[~((numbers >= 0) & (numbers < MOST_SYMBOLS))]  # NaN too
    if len(odd):
        rule = f"must lie in 0..{MOST_SYMBOLS - 1}: there are no more colours"
        raise style.NoDataError(f"symbols (={odd[0]:g}) {rule}")
    count = int(numbers.max()) + 1
    # The first symbol, in most tasks the blank, is pale.
    others = [*style.COLORS, *(tuple(1 - 0.45 * (1 - part) for part in color) for color in style.COLORS)]
    colors = ListedColormap([(0.93, 0.93, 0.93), *others[: count - 1]])
    shown = rows[rows["position"] < rows["position"].min() + STRIP_STEPS]
    streams = sorted(shown["stream"].unique())[:STREAMS]
    figure = style.new_figure(title, 0.3 + len(runs) * (0.75 + 0.5 * len(streams) + style.more_lines(runs.values())))
    each = figure.subplots(len(runs), 1, squeeze=False, sharex=True).ravel()
    for axes, (run, name) in zip(each, runs.items(), strict=True):
        own = rows[rows[ID] == run]
        wrong = int((own["target"] != own["predicted"]).sum())
        for number, stream in enumerate(streams):
            _strip(axes, shown[(shown[ID] == run) & (shown["stream"] == stream)], 3 * number, colors)
        axes.set_ylim(3 * len(streams) - 0.5, -0.6)
        places = [3 * number + row for number in range(len(streams)) for row in (0, 1)]
        axes.set_yticks(places, ["target", "predicted"] * len(streams), fontsize="small")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_title(f"{name}: {wrong} of {len(own)} wrong")
        axes.grid(visible=False)
    each[-1].set_xlabel("step of the test stream")
    if (rows["target"] != rows["predicted"]).any():
        style.legend_below(figure, [Line2D([], [], color=MISS, marker="^", ls="", label="wrong")])
    return figure


@style.styled
def intervals(predictions: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """Intervals between events: along the sequence, and predicted against true; red where the event itself was missed.

    Arguments and errors as in `symbols`.
    """
    rows = predictions[predictions["quantity"] == "interval"]
    runs = named(rows, frame, names, BESIDE)
    events = predictions[predictions["quantity"] == "event"]
    keys = [ID, "stream", "position"]
    hits = events[keys].assign(hit=(events["target"] == events["predicted"]).to_numpy())
    rows = rows.merge(hits, on=keys, how="left")
    rows["hit"] = rows["hit"].fillna(value=True).astype(bool)
    figure = style.new_figure(title, 0.3 + (2.5 + style.more_lines(runs.values())) * len(runs))
    grid = figure.subplots(len(runs), 2, squeeze=False, width_ratios=[2.2, 1])
    for (along, against), (run, name) in zip(grid, runs.items(), strict=True):
        own = rows[rows[ID] == run]
        first = _first(own)
        _along(along, first, "interval")
        missed = first.loc[~first["hit"], "position"]
        at_bottom = along.get_xaxis_transform()
        along.plot(missed, np.full(len(missed), 0.02), "|", color=MISS, ms=5, transform=at_bottom)
        along.set_title(name)
        _against(against, own)
        if len(events):
            against.set_title(f"event: {(~own['hit']).mean():.0%} missed", loc="left")
    looks = CURVES | (EVENTS if len(events) else {})
    style.legend_below(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return figure


@style.styled
def values(predictions: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """Real-valued targets and predictions along a test stream, of at most 20 outputs.

    Arguments and errors as in `symbols`.
    """
    rows = predictions[predictions["quantity"].astype(str).str.match(VALUES)]
    runs = named(rows, frame, names, WIDE)
    quantities = sorted(rows["quantity"].unique())[:MOST_OUTPUTS]
    figure = style.new_figure(title, 0.3 + len(runs) * (1.6 * len(quantities) + style.more_lines(runs.values())))
    each = figure.subplots(len(runs) * len(quantities), 1, squeeze=False, sharex=True).ravel()
    drawn = ((run, quantity) for run in runs for quantity in quantities)
    for axes, (run, quantity) in zip(each, drawn, strict=True):
        _along(axes, _first(rows[(rows[ID] == run) & (rows["quantity"] == quantity)]), quantity)
        axes.set_title(runs[run] if quantity == quantities[0] else "")
    for axes in each[:-1]:
        axes.set_xlabel("")
    style.legend_below(figure, [Line2D([], [], label=label, **look) for label, look in CURVES.items()])
    return figure


def _strip(axes: Axes, rows: pd.DataFrame, top: int, colors: ListedColormap) -> None:
    table = rows.drop_duplicates("position").set_index("position")[["target", "predicted"]].sort_index()
    if table.empty:
        return
    steps, both = table.index.to_numpy(), table.to_numpy().T
    every = np.arange(steps[0], steps[-1] + 1)
    edges = np.append(every, every[-1] + 1) - 0.5, np.array([top - 0.5, top + 0.5, top + 1.5])
    cells = table.reindex(every).to_numpy().T
    axes.pcolormesh(*edges, cells, cmap=colors, vmin=-0.5, vmax=colors.N - 0.5, edgecolors="white", lw=0.6)
    for row, line in enumerate(both):
        for step, symbol in zip(steps, line, strict=True):
            color = "black" if sum(colors(int(symbol))[:3]) > 1.75 else "white"
            text = axes.text(step, top + row, f"{symbol:.0f}", ha="center", va="center", color=color, fontsize=5.5)
            text.set_in_layout(False)
    wrong = steps[both[0] != both[1]]
    if len(wrong):  # a line of no point takes the whole layout down
        axes.plot(wrong, np.full(len(wrong), top + 1.85), "^", color=MISS, ms=3.5, clip_on=False)


def _first(rows: pd.DataFrame) -> pd.DataFrame:
    """The beginning of the first stream."""
    return rows[rows["stream"] == rows["stream"].min()].sort_values("position").head(CURVE_STEPS)


def _along(axes: Axes, rows: pd.DataFrame, quantity: str) -> None:
    axes.plot(rows["position"], rows["target"], **TARGET)
    axes.plot(rows["position"], rows["predicted"], **PREDICTED)
    if quantity == "interval":
        positive = rows.loc[(rows["target"] > 0) & (rows["predicted"] > 0), ["target", "predicted"]]
        style.scale(axes.yaxis, positive.to_numpy().ravel())
    axes.set_xlabel("step of the test stream")
    axes.set_ylabel(quantity)


def _against(axes: Axes, rows: pd.DataFrame) -> None:
    positive = rows[(rows["target"] > 0) & (rows["predicted"] > 0)]
    if positive.empty:
        raise style.NoDataError("no interval is positive")
    low, high = positive[["target", "predicted"]].min().min(), positive[["target", "predicted"]].max().max()
    if len(positive) > DENSE:
        points = positive["target"], positive["predicted"]
        axes.hexbin(*points, xscale="log", yscale="log", bins="log", gridsize=40, mincnt=1)
    else:
        for hit, color in ((True, HIT), (False, MISS)):
            own = positive[positive["hit"] == hit]
            axes.plot(own["target"], own["predicted"], ".", color=color, ms=3.5, alpha=0.45, mew=0)
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis, low, high)
    axes.plot([low, high], [low, high], color=".3", lw=1, ls="--")
    axes.set_xlabel("true interval")
    axes.set_ylabel("predicted interval")
