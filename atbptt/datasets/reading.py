"""Reading a user's text files: what is wrong is told with the file and the line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from atbptt.datasets.sources import SOURCES
from atbptt.errors import ConfigError, listed, require


def require_files(folder: Path, names: Sequence[str]) -> None:
    """Raise a `ConfigError` unless all the files are in the folder; how to get published ones is said."""
    missing = [name for name in names if not (folder / name).is_file()]
    rule = f"lacks {listed(missing)}; it must hold {listed(names)}" if folder.is_dir() else "must be a folder"
    require(not missing, "path", str(folder), rule + how_to_fetch(folder))


def how_to_fetch(folder: Path) -> str:
    """`; python -m ... gets it` for the folder of a published data set, else nothing."""
    to = "" if folder.parent == Path("data") else f" --to {folder.parent}"
    names = [name for name, source in SOURCES.items() if source.folder == folder.name]
    return f"; python -m atbptt.datasets fetch {names[0]}{to} gets it" if names else ""


def text_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without their ends; a byte order mark is passed over.

    Raises:
        ConfigError: a line is not UTF-8.
    """
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                refuse(file, number, f"is not UTF-8: byte 0x{line[error.start]:02x} at its place {error.start + 1}")


def refuse(file: Path, line: int, what: str) -> NoReturn:
    """Raise a `ConfigError` that tells what is wrong in a line of a file."""
    raise ConfigError("path", f"(={file.parent}) cannot be read: line {line} of {file.name} {what}")
