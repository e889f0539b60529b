"""The figures of some runs in their order, with titles and captions; and figures as files."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from atbptt.errors import AnalysisError
from atbptt.system import cut_name, replacing

from ..loading import Results
from ..statistics import ID, NO_PROBES, PROBE, validation_metrics
from .convergence import clocks, convergence, relative_bias
from .lags import component_profiles, lag_maps, lag_profiles, lag_ratios, noise_profiles, position_maps
from .lines import default_lines
from .predictions import intervals, symbols, values
from .runs import Names, choose_runs
from .style import STYLE, NoDataError
from .sweeps import parallel, tuning
from .trials import trials

FORMATS = ("png", "pdf")
DPI = 200
STEM = 100  # bytes of a data set in the name of a file
DRAWN = {"value", "phi", "signal_to_noise", "target", "predicted"}  # columns
LIMITS = 1e-300, 1e300  # of their sizes
PREDICTED_RUNS = 2  # whose predictions are drawn: the best of fixed and of adaptive policies, if there are both
SEARCHED = (
    "Best validation of each trial, mean over init, in order with the best so far, and against each searched option. "
    "Later trials are brighter, the best one is framed; crosses above: failed trials."
)
Plan = tuple[str, str, str, Callable[[], Figure]]  # name, title, caption; draws the figure or raises NoDataError


@dataclass(frozen=True)
class Drawing:
    """A figure with heading and caption."""

    name: str  # stem of its files: `convergence_copy_fixed`
    title: str
    caption: str  # what is drawn, how to read it, what was left out
    figure: Figure


def draw(results: Results) -> Iterator[Drawing]:
    """Every figure that the data allow, dataset by dataset in a fixed order, then searches; none before an evaluation.

    Raises:
        AnalysisError: the runs cannot be read, see `Results`.
    """
    frame = results.frame
    if not frame["metric"].astype(str).str.startswith("valid_").any():
        return
    frame = _drawable(frame)
    if "dataset" not in frame:
        frame = frame.assign(dataset="unknown")
    frame = frame[frame[ID].isin(validation_metrics(frame).index)]
    for dataset, runs in frame.groupby("dataset", dropna=False, observed=True):
        stem = cut_name(re.sub(r"[^\w.-]", "_", str(dataset)), STEM)
        for name, title, caption, drawn in _plans(results, runs, str(dataset)):
            try:
                yield Drawing(f"{name}_{stem}", title, caption.strip(), drawn())
            except NoDataError:
                continue
    for search in results.searches:
        try:
            yield Drawing(f"trials_{search.name}", "Trials of a search", SEARCHED, trials(search, search.name))
        except NoDataError:
            continue


def without_probes(options: pd.DataFrame) -> str:
    """That some runs, or all, are not in the figures of what probes measure; nothing if all can be."""
    without = int((options[PROBE] == NO_PROBES).sum()) if PROBE in options else 0
    which = "all runs" if without == len(options) else f"{without} of {len(options)} runs"
    return f"without probes (probe=none): {which}, of which no figure shows bias, noise or lags" if without else ""


def save_figures(results: Results, folder: Path) -> list[Path]:
    """Write every figure of `draw` to a folder, as PNG and PDF; files are replaced atomically.

    Raises:
        AnalysisError: no validation metric is logged yet.
        StorageError: the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise AnalysisError(f"{folder}: is a file; give a folder to write to")
    paths = [save(drawing.figure, folder / f"{drawing.name}.{kind}") for drawing in draw(results) for kind in FORMATS]
    if not paths:
        raise AnalysisError("no validation metric (valid_...) is logged yet")
    return paths


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, atomically (StorageError if it cannot be written)."""
    with replacing(path) as temporary:
        temporary.write_bytes(render(figure, path.suffix.removeprefix(".")))
    return path


def render(figure: Figure, kind: str = "png") -> bytes:
    """The content of a PNG or PDF file of a figure; the same figure gives the same bytes."""
    metadata: dict[str, Any] = {"CreationDate": None} if kind == "pdf" else {}
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks, as of a name in Chinese, is drawn as a box.
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def _drawable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers that no axis of matplotlib takes as infinite or zero, which it leaves out."""
    for name in DRAWN & {*table}:
        size = table[name].abs()
        if size.max() > LIMITS[1] or (size[size > 0] < LIMITS[0]).any():
            infinite = np.copysign(np.inf, table[name])
            table = table.assign(**{name: table[name].mask(size > LIMITS[1], infinite).mask(size < LIMITS[0], 0.0)})
    return table


def _plans(results: Results, frame: pd.DataFrame, dataset: str) -> Iterator[Plan]:
    """The figures of one dataset; the rows of single runs are read only when their figures come."""
    lines = default_lines(frame)
    drawn, remark = frame[frame[ID].isin(lines.runs)], lines.remark()
    yield (
        "convergence",
        "Validation and truncation length",
        f"Validation, best validation so far, and truncation length K over training. {remark}",
        partial(convergence, drawn, dataset, lines),
    )
    yield (
        "clocks",
        "Best validation by four clocks",
        "Best validation so far against epochs, epochs with what probes read, updates, and seconds of training, of the "
        "processor where stored; "
        f"a small K makes more updates an epoch. {remark}",
        partial(clocks, drawn, dataset, lines),
    )
    yield (
        "relative_bias",
        "Relative bias of the gradient",
        "At the K in use, the bound on the relative bias of K steps (an estimate with kept_norm=sum), and the scheme's "
        "bias as measured; dashed: delta of the adaptive policies. Gaps: an infinite bound, or K at the probe window's "
        f"end. {remark}",
        partial(relative_bias, drawn, dataset, lines),
    )
    for against, name, kind in (("K", "truncation length", "Fixed"), ("delta", "allowed bias", "Adaptive")):
        yield (
            f"lr_by_{against}",
            f"Learning rate by {name}",
            f"{kind} policies. Best validation, mean over init, the best over all other options; the best cell is "
            "framed. Lost runs failed, diverged or are not finished; grey: all are.",
            partial(tuning, frame, dataset, against, lines.metric),
        )
    yield (
        "parallel",
        "All settings",
        "A line per setting through its options to its best validation, mean over init; dark is good. At each value "
        "lines lie in the order of their results, the best lowest.",
        partial(parallel, frame, dataset, lines.metric),
    )

    names = choose_runs(frame, lines.metric)
    if not names:
        return
    probed = frame[frame[PROBE] != NO_PROBES] if PROBE in frame else frame
    if not probed.empty:
        yield from _plans_of_probes(results, probed, dataset, choose_runs(probed, lines.metric))
    few = dict(list(names.items())[:PREDICTED_RUNS])
    predictions = _drawable(results.predictions(few))
    frame = frame[frame[ID].isin(few)]
    where = "at the beginning of the test split, by the parameters of the best validation"
    yield (
        "symbols",
        "Target and predicted symbols",
        f"Symbols {where}, of some streams; a mark below a strip: wrong.",
        partial(symbols, predictions, frame, dataset, few),
    )
    yield (
        "intervals",
        "True and predicted intervals",
        f"Intervals {where}: along the first stream (marks at the bottom: event missed), and predicted against true "
        "of all stored streams.",
        partial(intervals, predictions, frame, dataset, few),
    )
    yield (
        "values",
        "Target and predicted values",
        f"Values {where}, of the first stream.",
        partial(values, predictions, frame, dataset, few),
    )


def _plans_of_probes(results: Results, frame: pd.DataFrame, dataset: str, names: Names) -> Iterator[Plan]:
    """The figures of the lags of single runs."""
    frame = frame[frame[ID].isin(names)]
    best = next(iter(names))
    chosen = "The best run of each policy" if len(names) > 1 else "The best run"
    chosen += ", at most four." if len(names) == 4 else "."
    gradients = _drawable(results.gradients(names))
    yield (
        "lag_profiles",
        "Gradient norm by lag",
        "phi: norm of the gradient of the loss with respect to the state k steps before, at three moments of training. "
        f"Points: the K in use; dashed: the fitted decay. {chosen}",
        partial(lag_profiles, gradients, frame, dataset, names),
    )
    yield (
        "noise_profiles",
        "Signal to noise by truncation length",
        "The square of an update's mean gradient over its variance, were it made with another K at the same "
        "parameters, at three moments of training. Points: the K in use; below the dashed line an update is mostly "
        f"noise; gaps: the signal is lost in it. {chosen}",
        partial(noise_profiles, gradients, frame, dataset, names),
    )
    yield (
        "components",
        "Gradient norm by lag and component",
        f"phi for each part of the state. One run: {names[best]}.",
        partial(component_profiles, gradients[gradients[ID] == best], frame, dataset),
    )
    yield (
        "lag_maps",
        "Gradient norm by lag over training",
        f"Colour: phi, down to 1e-8 of the largest; white: the K in use. {chosen}",
        partial(lag_maps, gradients, frame, dataset, names),
    )
    positions = _drawable(results.positions(names))
    yield (
        "position_maps",
        "Gradient norm by loss position and lag",
        "Colour: phi of each loss position (row of the probe window), mean over the evaluations after training began; "
        f"blank: before the window. {chosen}",
        partial(position_maps, positions, frame, dataset, names),
    )
    yield (
        "lag_ratios",
        "Decay from lag to lag",
        "Ratios of phi at lag k+1 to phi at lag k over loss positions, probes and evaluations after training began: "
        f"median, quartiles, 5 % to 95 %. Dashed: no decay. {chosen}",
        partial(lag_ratios, positions, frame, dataset, names),
    )
