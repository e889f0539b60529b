"""All figures that the data of some runs allow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.figures.catalogue import plans
from analysis.figures.empty import NoDataError
from analysis.figures.saving import FORMATS, save
from analysis.loading import Results
from analysis.statistics import ID, validation_metrics
from atbptt.errors import AnalysisError


@dataclass(frozen=True)
class Drawing:
    """A figure with what is said about it.

    Attributes:
        name: stem of its files: `convergence_copy_fixed`.
        title: a short heading.
        caption: what is drawn, how to read it, what was left out; some sentences.
        figure: the figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def draw(results: Results) -> Iterator[Drawing]:
    """Every figure that the data allow, dataset by dataset in a fixed order; none before the first evaluation.

    Raises:
        AnalysisError: the runs cannot be read, see `Results`.
    """
    frame = results.frame
    if not frame["metric"].astype(str).str.startswith("valid_").any():
        return
    if "dataset" not in frame:
        frame = frame.assign(dataset="unknown")
    frame = frame[frame[ID].isin(validation_metrics(frame).index)]
    for dataset, runs in frame.groupby("dataset", dropna=False, observed=True):
        stem = re.sub(r"[^\w.-]", "_", str(dataset))
        for plan in plans(results, runs, str(dataset)):
            try:
                figure = plan.draw()
            except NoDataError:
                continue
            yield Drawing(f"{plan.name}_{stem}", plan.title, plan.caption.strip(), figure)


def save_figures(results: Results, folder: Path) -> list[Path]:
    """Write every figure of `draw` to a folder, as PNG and PDF.

    Arguments:
        results: the runs.
        folder: where to; made if need be. Files are replaced atomically, and are the same for the same runs.

    Returns:
        The files, in the order of `draw`.

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
