"""Reads a user's text files; errors name the file and the line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from atbptt.datasets.sources import SOURCES
from atbptt.errors import ConfigError, listed, require


def require_files(folder: Path, names: Sequence[str]) -> None:
    """Raise a `ConfigError`, with the command that fetches published files, unless all files are in the folder."""
    missing = [name for name in names if not (folder / name).is_file()]
    rule = f"lacks {listed(missing)}; it must hold {listed(names)}" if folder.is_dir() else "must be a folder"
    to = "" if folder.parent == Path("data") else f" --to {folder.parent}"
    for name, source in SOURCES.items():
        if source.folder == folder.name and set(missing) <= set(source.checksums):
            rule += f"; python -m atbptt.datasets fetch {name}{to} gets it"
    require(not missing, "path", str(folder), rule)


def text_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without line ends and byte order mark; a `ConfigError` for any other file."""
    try:
        with open(file, "rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    refuse(file, number, f"is not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}")
                if "\r" in text:
                    refuse(file, number, "has a carriage return within it: a line must end in a line feed")
                yield text
    except OSError as error:
        raise ConfigError("path", f"(={file}) cannot be read: {error.strerror}") from error


def refuse(file: Path, line: int, what: str) -> NoReturn:
    raise ConfigError("path", f"(={file.parent}) cannot be read: line {line} of {file.name} {what}")
