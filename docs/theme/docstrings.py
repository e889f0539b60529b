"""Prepares docstrings for griffe: one entry for each name of `tau, window: ...`, and links between names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

SEVERAL = re.compile(r"(?P<indent> +)(?P<names>\w+(, \w+)+): (?P<rest>.*)")
SECTION = re.compile(r" *(Arguments|Attributes):$")
NAME = re.compile(r"`(?:atbptt\.(?:models\.)?)?([A-Z]\w+|batchify)`")
REFERENCE = Path(__file__).parents[1] / "reference.md"
ENTRIES = {path.rpartition(".")[2]: path for path in re.findall(r"^::: (\S+)$", REFERENCE.read_text(), re.MULTILINE)}


class Docstrings(griffe.Extension):
    """Rewrites docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = NAME.sub(linked, split(obj.docstring.value))


def linked(found: re.Match[str]) -> str:
    """A link to the name's entry in docs/reference.md, if there is one."""
    name = found[1]
    return f"[`{name}`][{ENTRIES[name]}]" if name in ENTRIES else found[0]


def split(docstring: str) -> str:
    """The docstring with one entry for each name in `Arguments:` and `Attributes:`."""
    blocks: list[list[str]] = [[]]  # an entry with its continuation lines, or another line
    inside, indent = False, ""
    for line in docstring.splitlines():
        if SECTION.match(line):
            inside, indent = True, ""
        elif inside and line and not line.startswith(" "):
            inside = False
        elif inside and line:
            indent = indent or line[: len(line) - len(line.lstrip())]
            if line.startswith(indent + " "):
                blocks[-1].append(line)
                continue
        blocks.append([line])
    return "\n".join(line for block in blocks for line in _entries(block))


def _entries(block: list[str]) -> list[str]:
    found = SEVERAL.fullmatch(block[0]) if block else None
    if found is None:
        return block
    return [
        line
        for name in found["names"].split(", ")
        for line in (f"{found['indent']}{name}: {found['rest']}", *block[1:])
    ]
