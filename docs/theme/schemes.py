"""Draws docs/schemes.svg, the first windows of each scheme: python docs/theme/schemes.py"""

from __future__ import annotations

import itertools
from pathlib import Path

from atbptt.windows.schemes import SCHEMES, windows

K, STEPS, ROWS = 4, 12, 3  # truncation length, steps of the stream, windows of each scheme
CELL, LINE, GAP, LEFT, TOP = 34, 18, 16, 150, 30  # pixels
# One colour per role, readable on white and on black.
PRE_ROLL, LOSS, AHEAD, TEXT = "#9aa5b1", "#3f6fd8", "#e0912f", "#7a828c"
OUTPUT = Path(__file__).parents[1] / "schemes.svg"


def draw() -> str:
    """The figure as SVG."""
    parts, y = [], TOP
    for step in range(STEPS):
        parts.append(_text(LEFT + CELL * (step + 0.5), TOP - 10, str(step), "middle"))
    for scheme in SCHEMES:
        parts.append(_text(LEFT - 12, y + LINE * 0.75, scheme, "end", family="monospace"))
        for window in itertools.islice(windows(scheme, K, STEPS), ROWS):
            spans = (
                (window.start, window.loss_start, PRE_ROLL),
                (window.loss_start, window.loss_stop, LOSS),
                (window.loss_stop, window.stop, AHEAD),
            )
            for step, fill in ((step, fill) for first, stop, fill in spans for step in range(first, stop)):
                size = f'width="{CELL - 3}" height="{LINE - 4}" rx="3"'
                parts.append(f'<rect x="{LEFT + CELL * step + 1}" y="{y + 2}" {size} fill="{fill}"/>')
            y += LINE
        y += GAP
    for x, fill, meaning in ((0, LOSS, "loss counted"), (130, PRE_ROLL, "pre-roll"), (230, AHEAD, "look-ahead")):
        parts.append(f'<rect x="{LEFT + x}" y="{y}" width="14" height="14" rx="3" fill="{fill}"/>')
        parts.append(_text(LEFT + x + 20, y + 12, meaning, "start"))
    width, height = LEFT + CELL * STEPS + 10, y + 24
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    title = f"<title>The first windows of each scheme, K = {K}</title>"
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', title, *parts, "</svg>\n"])


def _text(x: float, y: float, words: str, anchor: str, family: str = "sans-serif") -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {place} font-family="{family}" font-size="13" fill="{TEXT}">{words}</text>'


if __name__ == "__main__":
    OUTPUT.write_text(draw())
