"""Figures as images within the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from PIL import Image

from analysis.figures import Drawing, render

COLORS = 256  # a third of the bytes of true colour, and nobody sees the difference
SCREEN_SCALE = 2  # pixels of the image a pixel of the page: sharp on a phone, and when enlarged


@dataclass(frozen=True)
class Picture:
    """A figure to be shown: its anchor, heading and caption, the image as a data URI, its size on the page (pixels)."""

    name: str
    title: str
    caption: str
    source: str
    width: int
    height: int


def pictures(drawings: Iterable[Drawing]) -> Iterator[Picture]:
    """Each figure as a PNG image; the same figure gives the same bytes."""
    for drawing in drawings:
        image = Image.open(io.BytesIO(render(drawing.figure, "png"))).convert("RGB")
        buffer = io.BytesIO()
        image.quantize(COLORS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
        source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        width, height = (length // SCREEN_SCALE for length in image.size)
        yield Picture(drawing.name, drawing.title, drawing.caption, source, width, height)
