"""Reading a user's text files: what is wrong is reported with the file and the line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from atbptt.datasets.sources import SOURCES
from atbptt.errors import ConfigError, listed, require

SHOWN_LETTERS = 20


def require_files(folder: Path, names: Sequence[str]) -> None:
    """Raise a `ConfigError` unless all the files are in the folder; how to get published ones is said."""
    missing = [name for name in names if not (folder / name).is_file()]
    rule = f"lacks {listed(missing)}; it must hold {listed(names)}" if folder.is_dir() else "must be a folder"
    require(not missing, "path", str(folder), rule + how_to_fetch(folder, missing))


def how_to_fetch(folder: Path, missing: Sequence[str]) -> str:
    """`; python -m ... gets it` where a published data set has the missing files, else nothing."""
    to = "" if folder.parent == Path("data") else f" --to {folder.parent}"
    found = [
        name
        for name, source in SOURCES.items()
        if source.folder == folder.name and set(missing) <= set(source.checksums)
    ]
    return f"; python -m atbptt.datasets fetch {found[0]}{to} gets it" if found else ""


def text_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without their ends; a byte order mark is passed over.

    Raises:
        ConfigError: a line is not UTF-8, or has a carriage return within it; the file cannot be opened.
    """
    try:
        with open(file, "rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    refuse(file, number, f"is not UTF-8: byte 0x{line[error.start]:02x} at its place {error.start + 1}")
                if "\r" in text:
                    refuse(file, number, "has a carriage return within it: a line must end in a line feed")
                yield text
    except OSError as error:
        raise ConfigError("path", f"(={file}) cannot be read: {error.strerror}") from error


def quoted(word: str) -> str:
    """A word of a file for a message, the beginning of a long one."""
    return word if len(word) <= SHOWN_LETTERS else f"{word[:SHOWN_LETTERS]}..."


def refuse(file: Path, line: int, what: str) -> NoReturn:
    """Raise a `ConfigError` that tells what is wrong in a line of a file."""
    raise ConfigError("path", f"(={file.parent}) cannot be read: line {line} of {file.name} {what}")
