"""A figure as bytes that depend on nothing but what is drawn, and as files that are whole."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.figures.style import STYLE
from atbptt.system import replacing

FORMATS = ("png", "pdf")
DPI = 200


def render(figure: Figure, kind: str = "png") -> bytes:
    """The content of a PNG or PDF file of a figure; the same figure gives the same bytes."""
    metadata: dict[str, Any] = {"CreationDate": None} if kind == "pdf" else {}
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks, as of a name in Chinese, is drawn as a box.
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix; the file is whole or what it was before.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(render(figure, path.suffix.removeprefix(".")))
    return path
