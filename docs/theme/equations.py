"""Converts LaTeX in `$...$` and `$$...$$` to MathML when the site is built, so that pages need no script."""

from __future__ import annotations

import html
import logging
import re
from typing import Any

from latex2mathml.converter import convert

log = logging.getLogger("mkdocs.hooks.equations")
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
# The converter omits the space between a function's name and an argument without brackets.
NAME = re.compile(r"(<mi>(?:log|ln|exp|max|min)</mi>)(?=<m(?:i|n|sub|sup|subsup)\b)")
SIMILAR = re.compile(r"<mi>(&#x0007E;)</mi>")  # \sim is a relation, with space around it
ARG = re.compile(r"\\arg(?![a-zA-Z])")
# What the converter leaves unchanged: unknown commands, and columns of an environment.
LEFT_OVER = re.compile(r"\\[a-zA-Z]+|<mi>&</mi>")


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Convert the equations of a page."""
    where = page.file.src_uri
    content = BLOCK.sub(lambda found: f'<div class="equation">{mathml(found[1], "block", where)}</div>', content)
    return INLINE.sub(lambda found: mathml(found[1], "inline", where), content)


def mathml(escaped: str, display: str, where: str) -> str:
    """Convert one equation of HTML-escaped LaTeX; warns with the page if that fails."""
    latex = ARG.sub(r"\\mathrm{arg}\\,", html.unescape(escaped).strip())
    try:
        converted: str = convert(latex, display=display)
    except Exception as error:  # the converter raises various errors
        log.warning("%s: %r cannot be converted: %r", where, latex, error)
        return f"<code>{escaped}</code>"
    if unknown := LEFT_OVER.findall(converted):
        log.warning("%s: %r cannot be converted completely: %s", where, latex, ", ".join(unknown))
    converted = SIMILAR.sub(r'<mo lspace="0.28em" rspace="0.28em">\1</mo>', converted)
    return NAME.sub(r'\1<mspace width="0.17em" />', converted)
