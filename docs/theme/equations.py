"""LaTeX in `$...$` and `$$...$$` becomes MathML when the site is built, so that a page needs no script to show it."""

from __future__ import annotations

import html
import logging
import re
from typing import Any

from latex2mathml.converter import convert

log = logging.getLogger("mkdocs.hooks.equations")
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
# The converter leaves no space between a function's name and an argument without brackets.
NAME = re.compile(r"(<mi>(?:log|ln|exp|max|min)</mi>)(?=<m(?:i|n|sub|sup|subsup)\b)")
SIMILAR = re.compile(r"<mi>(&#x0007E;)</mi>")  # \sim: a relation, which has space around it
ARG = re.compile(r"\\arg(?![a-zA-Z])")
# What the converter does not know stays as it is: a command, or the columns of an environment.
LEFT_OVER = re.compile(r"\\[a-zA-Z]+|<mi>&</mi>")


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Convert the equations of a page."""
    where = page.file.src_uri
    content = BLOCK.sub(lambda found: f'<div class="equation">{mathml(found[1], "block", where)}</div>', content)
    return INLINE.sub(lambda found: mathml(found[1], "inline", where), content)


def mathml(escaped: str, display: str, where: str) -> str:
    """One equation, HTML-escaped LaTeX, as MathML; what cannot be converted is a warning that names the page."""
    latex = ARG.sub(r"\\mathrm{arg}\\,", html.unescape(escaped).strip())
    try:
        converted: str = convert(latex, display=display)
    except Exception as error:  # it has no error of its own for what it cannot read
        log.warning("%s: %r cannot be converted: %r", where, latex, error)
        return f"<code>{escaped}</code>"
    if unknown := LEFT_OVER.findall(converted):
        log.warning("%s: %r has what cannot be converted: %s", where, latex, ", ".join(unknown))
    converted = SIMILAR.sub(r'<mo lspace="0.28em" rspace="0.28em">\1</mo>', converted)
    return NAME.sub(r'\1<mspace width="0.17em" />', converted)
