"""Which settings are drawn as lines, and how; the line of a setting: mean over runs, band, runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import COLORS, DASHES
from analysis.statistics import ID, best_validation, labels, mean_curve, natural, options_of, policies

MOST_LINES = 10
MOST_THIN_LINES = 12  # in all: more would be a fog


@dataclass(frozen=True)
class Line:
    """How one setting is drawn, and its runs."""

    label: str
    color: Any
    dash: str
    runs: tuple[str, ...]
    delta: float | None = None  # the relative bias that an adaptive policy allows


@dataclass(frozen=True)
class Lines:
    """The settings that are drawn, of `settings` in all; `metric` is the dataset's validation metric."""

    chosen: tuple[Line, ...]
    settings: int
    metric: str

    @property
    def runs(self) -> set[str]:
        return {run for line in self.chosen for run in line.runs}

    @property
    def several(self) -> bool:
        """Whether a setting has more than one run."""
        return any(len(line.runs) > 1 for line in self.chosen)

    @property
    def thin(self) -> bool:
        """Whether the runs are drawn too."""
        return self.several and len(self.runs) <= MOST_THIN_LINES

    def rows(self, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
        """The rows of a metric, of the runs that are drawn."""
        own = frame[frame["metric"] == metric]
        return own[own[ID].isin(self.runs)]

    def remark(self) -> str:
        """What the lines, bands and thin lines are, for a caption."""
        sentences = []
        if len(self.chosen) < self.settings:
            sentences.append(
                f"{len(self.chosen)} of {self.settings} settings: the best of each policy, then the next best by "
                "mean best validation."
            )
        if self.several:
            thin = ", thin lines the runs" if self.thin else ""
            sentences.append(f"Lines are means over init, bands one standard deviation{thin}.")
        return " ".join(sentences)


def choose_lines(frame: pd.DataFrame, metric: str, most: int = MOST_LINES) -> Lines:
    """At most `most` settings: the best of each kind of policy and of each policy, then the next best.

    Arguments:
        frame: as from `load`, of one dataset.
        metric: the validation metric that says what is best, by its mean over the runs of a setting.
        most: how many settings.

    Returns:
        The lines by label in natural order: a colour per policy and a dash per other options if both vary and there
        are enough, else a look for each.
    """
    options = options_of(frame)
    runs = pd.DataFrame({ID: options[ID], "policy": policies(options).astype(str), "label": labels(options)})
    runs["kind"] = runs["policy"].str.split(" ", n=1).str[0]
    delta = options.get("truncation.delta")
    runs["delta"] = np.nan if delta is None else delta.astype(float)
    best = best_validation(frame[frame["metric"] == metric], metric).set_index(ID)["valid"]
    runs["best"] = runs[ID].map(best)
    settings = runs.groupby("label", sort=False).agg(
        policy=("policy", "first"), kind=("kind", "first"), delta=("delta", "first"), best=("best", "mean")
    )
    ranked = settings.sort_values("best", kind="stable")  # without a finite value: last
    ranked["rank"] = 2 - (~ranked.duplicated("policy")).astype(int) - (~ranked.duplicated("kind")).astype(int)
    chosen = ranked.sort_values("rank", kind="stable").head(most)
    chosen = chosen.loc[sorted(chosen.index, key=natural)]

    rest = [str(label)[len(policy) :] for label, policy in chosen["policy"].items()]
    names, rests = (sorted(set(found), key=natural) for found in (chosen["policy"], rest))
    crossed = 1 < len(names) <= len(COLORS) and 1 < len(rests) <= len(DASHES)
    own = runs[runs["label"].isin(chosen.index)].groupby("label")[ID].agg(tuple)
    lines = []
    for number, label in enumerate(chosen.index):
        color, dash = number, number // (len(COLORS) // 2)  # two similar colours never have the same dash
        if crossed:
            color, dash = names.index(chosen["policy"].iloc[number]), rests.index(rest[number])
        allowed = chosen["delta"].iloc[number]
        lines.append(
            Line(
                label,
                COLORS[color % len(COLORS)],
                DASHES[dash % len(DASHES)],
                own[label],
                None if np.isnan(allowed) else float(allowed),
            )
        )
    return Lines(tuple(lines), len(settings), metric)


def draw_lines(
    axes: Axes,
    frame: pd.DataFrame,
    metric: str,
    lines: Lines,
    axis: str = "epoch",
    between: str = "interpolate",
    top: float = np.inf,
    log: bool = False,
) -> None:
    """Draw a line for each setting: the mean over its runs, a band one standard deviation wide, thin lines the runs.

    Arguments:
        axes: to draw in.
        frame: with one value of the metric for each run and step.
        metric: its name.
        lines: how.
        axis, between: what the values are drawn against, and how they go on between two, see `mean_curve`.
        top: no band where the mean is above.
        log: the values are logarithms; mean and deviation are theirs, and what is drawn is the exponential.
    """
    shown = _exponential if log else np.asarray
    held = between == "hold"
    frame = frame[frame["metric"] == metric]
    for line in lines.chosen:
        runs = frame[frame[ID].isin(line.runs)]
        mean = mean_curve(runs, metric, axis, between)
        axes.plot(
            mean[axis],
            shown(mean["mean"]),
            color=line.color,
            ls=line.dash,
            lw=1.8,
            label=line.label,
            marker="o" if len(mean) == 1 else None,  # a line of one point is invisible
            drawstyle="steps-post" if held else "default",
            zorder=3,
        )
        alone = _alone(np.isfinite(mean["mean"].to_numpy()))
        if alone.any() and len(mean) > 1:
            axes.plot(mean.loc[alone, axis], shown(mean.loc[alone, "mean"]), ".", color=line.color, ms=5, zorder=3)
        if len(line.runs) == 1:
            continue
        # No further than any run: one spike makes a standard deviation that reaches below perplexity 1.
        low = (mean["mean"] - mean["sd"]).clip(lower=mean["lowest"])
        high = (mean["mean"] + mean["sd"]).clip(upper=mean["highest"])
        # Where the mean has left the axis the band would be a wall from bottom to top.
        inside = (mean["mean"] <= top) & np.isfinite(mean["mean"])
        axes.fill_between(
            mean[axis],
            shown(low),
            shown(high),
            inside,
            color=line.color,
            alpha=0.15,
            lw=0,
            step="post" if held else None,
        )
        if lines.thin:
            for _, run in runs.sort_values("step").groupby(ID, observed=True):
                axes.plot(
                    run[axis],
                    shown(run["value"]),
                    color=line.color,
                    lw=0.6,
                    alpha=0.5,
                    drawstyle="steps-post" if held else "default",
                )


def _exponential(values: pd.Series) -> pd.Series:
    return np.exp(values.where(np.isfinite(values)))  # zero and infinity are not on the axis: a gap


def _alone(finite: np.ndarray) -> np.ndarray:
    """Which values no line connects to another: the neighbours are infinite."""
    padded = np.concatenate([[False], finite, [False]])
    return finite & ~padded[:-2] & ~padded[2:]
