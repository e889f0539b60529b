"""Figures: validation and truncation length K against epoch, a colour per setting."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.errors import AnalysisError
from analysis.statistics import ID, labels, mean_curve, natural, options_of, policies, validation_metrics

FORMATS = ("png", "pdf")
STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("notebook", font_scale=0.9),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": ".9",
    "pdf.fonttype": 42,  # text stays text
}
COLORS = sns.color_palette("colorblind", 10)
DASHES = ("-", "--", ":", "-.")
NOTE: dict[str, Any] = {"fontsize": "small", "color": ".4"}
CUT_NATS = float(np.log(5))  # see highest


@dataclass(frozen=True)
class _Line:
    """How one setting is drawn, and its runs."""

    color: Any
    dash: str
    runs: list[str]


def _lines(options: pd.DataFrame) -> dict[str, _Line]:
    """The line of each setting: a colour per policy and a dash per other options, if both vary."""
    settings = pd.DataFrame({ID: options[ID], "policy": policies(options), "label": labels(options)})
    settings["rest"] = [label[len(policy) :] for label, policy in zip(settings.label, settings.policy, strict=True)]
    own_policies, rests = (sorted(settings[name].unique(), key=natural) for name in ("policy", "rest"))
    crossed = 1 < len(own_policies) <= len(COLORS) and 1 < len(rests) <= len(DASHES)
    lines = {}
    for number, label in enumerate(sorted(settings["label"].unique(), key=natural)):
        runs = settings[settings["label"] == label]
        color, dash = number, number // len(COLORS)
        if crossed:
            color, dash = own_policies.index(runs["policy"].iloc[0]), rests.index(runs["rest"].iloc[0])
        lines[label] = _Line(COLORS[color % len(COLORS)], DASHES[dash % len(DASHES)], list(runs[ID]))
    return lines


def save_figures(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw `convergence_<dataset>` for every dataset in the frame, as PNG and PDF.

    Arguments:
        frame: as from `load`.
        folder: where to; made if need be. Files are replaced atomically.

    Raises:
        AnalysisError: no validation metric is logged yet, or the folder cannot be written.
    """
    if "dataset" not in frame:
        frame = frame.assign(dataset="unknown")
    frame = frame[frame[ID].isin(validation_metrics(frame).index)]
    paths = []
    for dataset, runs in frame.groupby("dataset", dropna=False):
        stem = "convergence_" + re.sub(r"[^\w.-]", "_", str(dataset))
        with mpl.rc_context(STYLE):
            figure = convergence(runs, str(dataset))
            paths += [_save(figure, folder / f"{stem}.{suffix}") for suffix in FORMATS]
    return paths


def convergence(frame: pd.DataFrame, title: str) -> Figure:
    """Validation (left) and K (right) against epoch for the runs of one dataset.

    A thick line is the mean over `init` of a setting, the band one standard deviation (no further than any
    run), thin lines the runs.
    Validation before the first training step is left out: it would squash all that training does.

    Arguments:
        frame: as from `load`.
        title: written above.
    """
    lines = _lines(options_of(frame))
    metric = validation_metrics(frame).mode()[0]  # a dataset has one loss, so its runs have one metric

    figure = Figure(figsize=(11, 4), layout=ConstrainedLayoutEngine(wspace=0.06))
    figure.suptitle(title, x=0.01, ha="left")
    left, right = figure.subplots(1, 2)

    trained = frame[frame["step"] > 0] if (frame["step"] > 0).any() else frame
    values = trained.loc[trained["metric"] == metric, [ID, "step", "value"]]
    top = highest(values, perplexity=metric == "valid_ppl")
    _draw(left, trained, metric, lines, top)
    _cut(left, values, top)
    measure = metric.removeprefix("valid_")
    left.set_ylabel("validation " + (measure.upper() if measure in ("ppl", "nll") else measure.replace("_", " ")))

    _draw(right, frame, "K", lines)
    _scale(right, frame.loc[frame["metric"] == "K", "value"])
    right.set_ylabel("truncation length K (steps)")

    several = any(len(line.runs) > 1 for line in lines.values())
    figure.legend(
        handles=left.get_lines()[: len(lines)],
        loc="outside right center",
        frameon=False,
        title="mean ± sd over init" if several else None,
    )
    return figure


def _draw(axes: Axes, frame: pd.DataFrame, metric: str, lines: dict[str, _Line], top: float = float("inf")) -> None:
    axes.set_xlabel("epoch")
    for label, line in lines.items():
        runs = frame[frame[ID].isin(line.runs)]
        mean = mean_curve(runs, metric)
        marker = "o" if len(mean) == 1 else None  # a line of one point is invisible
        axes.plot(
            mean["epoch"],
            mean["mean"],
            color=line.color,
            ls=line.dash,
            lw=2,
            label=label,
            marker=marker,
            zorder=3,
        )
        if len(line.runs) > 1:
            # No further than any run: one spike makes a standard deviation that reaches below perplexity 1.
            low = (mean["mean"] - mean["sd"]).clip(lower=mean["lowest"])
            high = (mean["mean"] + mean["sd"]).clip(upper=mean["highest"])
            # Where the mean has left the axis the band would be a wall from bottom to top.
            axes.fill_between(mean["epoch"], low, high, mean["mean"] <= top, color=line.color, alpha=0.15, lw=0)
    for line in lines.values():
        if len(line.runs) > 1:
            for run in line.runs:
                own = mean_curve(frame[frame[ID] == run], metric)
                axes.plot(own["epoch"], own["mean"], color=line.color, lw=0.7, alpha=0.5)


def highest(values: pd.DataFrame, perplexity: bool) -> float:
    """The highest value that is no divergence, which would squash the rest of the figure.

    A value diverges if it is more than log 5 nats (a factor of 5 in PPL) above the median of the runs' first
    evaluations.

    Arguments:
        values: `experiment_id`, `step`, `value`, of one metric.
        perplexity: whether the values are exp(nats), else nats.

    Returns:
        Minus infinity if no value is finite.
    """
    finite = values[np.isfinite(values["value"])].sort_values("step")
    if finite.empty:
        return -float("inf")
    start = finite.groupby(ID)["value"].first().median()
    limit = start * np.exp(CUT_NATS) if perplexity else start + CUT_NATS
    return float(finite.loc[finite["value"] <= limit, "value"].max())


def _cut(axes: Axes, values: pd.DataFrame, top: float) -> None:
    """End the axis just above `top` if values are beyond it, and say so."""
    inside = values.loc[values["value"] <= top, "value"]
    _scale(axes, inside)
    beyond = values.loc[~(values["value"] <= top), ID].nunique()  # NaN too
    if not beyond:
        return
    runs = f"{beyond} of {values[ID].nunique()} runs"
    if not np.isfinite(top):
        axes.set_title(f"no finite value: {runs}", loc="left", **NOTE)
        return
    low = inside.min()
    margin = 0.05 * (top - low or abs(top))
    axes.set_ylim(low / 1.05 if axes.get_yscale() == "log" else low - margin, top + margin)
    axes.set_title(f"axis ends at {top + margin:.3g}; beyond it or not a number: {runs}", loc="left", **NOTE)


def _scale(axes: Axes, values: pd.Series) -> None:
    """A logarithmic axis for values that span a decade, with plain numbers."""
    if len(values) and values.min() > 0 and values.max() >= 10 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _save(figure: Figure, path: Path) -> Path:
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    # No date, so that the same runs give the same file.
    metadata: dict[str, Any] = {"CreationDate": None} if path.suffix == ".pdf" else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(temporary, dpi=200, metadata=metadata)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise AnalysisError(f"cannot write {path}: {error.strerror or error}") from error
    return path
