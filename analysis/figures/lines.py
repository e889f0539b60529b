"""Lines of settings: which are drawn, their looks; mean over runs, band, runs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .. import statistics
from .style import COLORS, DASHES

MOST_LINES = 10
MOST_THIN_LINES = 12  # in all: more would hide the means


@dataclass(frozen=True)
class Line:
    """The look of a setting, and its runs."""

    label: str
    color: Any
    dash: str
    runs: tuple[str, ...]
    delta: float | None = None  # of an adaptive policy


@dataclass(frozen=True)
class Lines:
    """The settings that are drawn, of `settings` in all; `metric` is the validation metric."""

    chosen: tuple[Line, ...]
    settings: int
    metric: str
    replicates: str
    lost: int  # runs of the settings drawn that are left out

    @property
    def runs(self) -> set[str]:
        return {run for line in self.chosen for run in line.runs}

    @property
    def thin(self) -> bool:
        """Whether the runs are drawn too."""
        return len(self.chosen) < len(self.runs) <= MOST_THIN_LINES

    def rows(self, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
        """The rows of a metric, of the runs that are drawn."""
        return frame[(frame["metric"] == metric) & frame[statistics.ID].isin(self.runs)]

    def having(self, frame: pd.DataFrame, metrics: Iterable[str]) -> Self:
        """Those of which a run has logged one of the metrics."""
        runs = {*frame.loc[frame["metric"].isin([*metrics]), statistics.ID]}
        return replace(self, chosen=tuple(line for line in self.chosen if not runs.isdisjoint(line.runs)))

    def remark(self) -> str:
        """A caption's sentences on lines, bands and thin lines."""
        sentences = []
        if len(self.chosen) < self.settings:
            sentences.append(
                f"{len(self.chosen)} of {self.settings} settings: the best of each policy, then the next best by "
                "mean best validation."
            )
        if len(self.chosen) < len(self.runs):
            thin = ", thin lines the runs" if self.thin else ""
            sentences.append(f"Lines are means over {self.replicates}, bands one standard deviation{thin}.")
        if self.lost:
            runs = "1 run that" if self.lost == 1 else f"{self.lost} runs that"
            sentences.append(f"Left out: {runs} failed, diverged or did not finish yet.")
        return " ".join(sentences)


def default_lines(frame: pd.DataFrame) -> Lines:
    """`choose_lines` by the validation metric of most runs (AnalysisError if none is logged)."""
    return choose_lines(frame, statistics.validation_metrics(frame).mode()[0])


def choose_lines(frame: pd.DataFrame, metric: str, most: int = MOST_LINES) -> Lines:
    """At most `most` settings: the best of each kind of policy and of each policy, then the next best.

    In the natural order of their labels, each with the runs that count (see `endings`). If policies and other options
    both vary, and there are enough colours and dashes, a policy has one colour and the other options have one dash;
    else each line has its own.
    """
    options = statistics.options_of(frame)
    statistics.check_replicates(options)
    runs = pd.DataFrame(
        {
            statistics.ID: options[statistics.ID],
            "policy": statistics.policies(options).astype(str),
            "label": statistics.labels(options),
        }
    )
    runs["kind"] = runs["policy"].str.split(" ", n=1).str[0]
    deltas = options.get("truncation.delta", pd.Series(np.nan, options.index))
    runs["delta"] = pd.to_numeric(deltas, errors="coerce").astype(float)  # another class may have a delta of its own
    best = statistics.best_validation(frame[frame["metric"] == metric], metric).set_index(statistics.ID)["valid"]
    endings = statistics.endings(frame, metric).set_index(statistics.ID)
    runs["best"] = runs[statistics.ID].map(best)
    runs["incomplete"] = runs[statistics.ID].map(endings["ending"]) != statistics.COMPLETE
    lost = runs["label"][~runs[statistics.ID].isin(endings.index[endings["counts"]])]
    runs = runs.drop(index=lost.index)
    first = {name: (name, "first") for name in ("policy", "kind", "delta")}
    of_runs = {"best": ("best", "mean"), "incomplete": ("incomplete", "first"), "runs": (statistics.ID, tuple)}
    settings = runs.groupby("label", sort=False).agg(**of_runs, **first)
    ranked = settings.sort_values(["incomplete", "best"], kind="stable")  # without a finite value: last
    ranked["rank"] = ranked.duplicated("policy").astype(int) + ranked.duplicated("kind")
    chosen = ranked.sort_values("rank", kind="stable").head(most)
    chosen = chosen.loc[sorted(chosen.index, key=statistics.natural)]

    rest = [str(label)[len(policy) :] for label, policy in chosen["policy"].items()]
    names, rests = (sorted(set(found), key=statistics.natural) for found in (chosen["policy"], rest))
    crossed = 1 < len(names) <= len(COLORS) and 1 < len(rests) <= len(DASHES)
    lines = []
    for number, (label, own) in enumerate(chosen.iterrows()):
        color, dash = number, number // (len(COLORS) // 2)  # two similar colours never have the same dash
        if crossed:
            color, dash = names.index(own["policy"]), rests.index(rest[number])
        delta = None if np.isnan(own["delta"]) else float(own["delta"])
        lines.append(Line(str(label), COLORS[color % len(COLORS)], DASHES[dash % len(DASHES)], own["runs"], delta))
    lost_of_chosen = int(lost.isin(chosen.index).sum())
    return Lines(tuple(lines), len(settings), metric, statistics.replicates(options), lost_of_chosen)


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
    """Draw each setting: the mean over its runs, a band one standard deviation wide, thin lines for the runs.

    The band is drawn where the mean is at most `top`. Of logarithms (`log`), mean and deviation are drawn as
    exponentials. `axis` and `between` as in `mean_curve`.
    """
    shown = _exponential if log else np.asarray
    steps: dict[str, Any] = {"drawstyle": "steps-post"} if between == "hold" else {}
    frame = frame[frame["metric"] == metric]
    for line in lines.chosen:
        runs = frame[frame[statistics.ID].isin(line.runs)]
        curve = statistics.mean_curve(runs, metric, axis, between)
        mean = curve["mean"]
        marker = "o" if len(curve) == 1 else None  # a line of one point is invisible
        style: dict[str, Any] = {"color": line.color, "zorder": 3}
        axes.plot(curve[axis], shown(mean), ls=line.dash, lw=1.8, label=line.label, marker=marker, **style, **steps)
        # Nor is a line seen of a value whose neighbours are infinite.
        finite = np.concatenate([[False], np.isfinite(mean), [False]])
        alone = finite[1:-1] & ~finite[:-2] & ~finite[2:]
        if alone.any() and len(curve) > 1:
            axes.plot(curve.loc[alone, axis], shown(mean[alone]), ".", ms=5, **style)
        if len(line.runs) == 1:
            continue
        # No further than any run: one spike makes a standard deviation that reaches below perplexity 1.
        low = (mean - curve["sd"]).clip(lower=curve["lowest"])
        high = (mean + curve["sd"]).clip(upper=curve["highest"])
        # Where the mean has left the axis the band would be a wall from bottom to top.
        inside = (mean <= top) & np.isfinite(mean)
        band: dict[str, Any] = {"color": line.color, "alpha": 0.15, "lw": 0, "step": "post" if steps else None}
        axes.fill_between(curve[axis], shown(low), shown(high), inside, **band)
        if lines.thin:
            for _, run in runs.sort_values("step").groupby(statistics.ID, observed=True):
                axes.plot(run[axis], shown(run["value"]), color=line.color, lw=0.6, alpha=0.5, **steps)


def thick_lines(axes: Axes, lines: Lines) -> list[Line2D]:
    """The lines of the settings, without the runs' thin ones, for a legend."""
    names = {line.label for line in lines.chosen}
    return [line for line in axes.get_lines() if line.get_label() in names]


def _exponential(values: pd.Series) -> pd.Series:
    return np.exp(values.where(np.isfinite(values)))  # zero and infinity are not on the axis: a gap
