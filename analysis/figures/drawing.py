"""All figures that the data of some runs allow, and figures as files."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.figures.catalogue import plans
from analysis.figures.style import STYLE, NoDataError
from analysis.loading import Results
from analysis.statistics import ID, validation_metrics
from atbptt.errors import AnalysisError
from atbptt.system import replacing

FORMATS = ("png", "pdf")
DPI = 200


@dataclass(frozen=True)
class Drawing:
    """A figure with heading and caption.

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
        for name, title, caption, drawn in plans(results, runs, str(dataset)):
            try:
                yield Drawing(f"{name}_{stem}", title, caption.strip(), drawn())
            except NoDataError:
                continue


def save_figures(results: Results, folder: Path) -> list[Path]:
    """Write every figure of `draw` to a folder, as PNG and PDF.

    Arguments:
        results: the runs.
        folder: made if need be. Files are replaced atomically, and are the same for the same runs.

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


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, atomically.

    Raises:
        StorageError: it cannot be written.
    """
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
