"""Reads a user's text files; errors name the file and the line."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from atbptt.datasets.sources import SOURCES
from atbptt.errors import ConfigError, listed, require, show
from atbptt.system import open_file, require_memory


def checked(files: Iterable[Path]) -> list[Path]:
    """The files; a `ConfigError` if one that exists is a folder, a pipe or a device, or larger than memory.

    Its content need not be read, which could take for ever.
    """
    found = list(files)
    for file in found:
        try:
            with open_file(file) as stream:
                size = os.fstat(stream.fileno()).st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:  # a ValueError is a path that no file can have
            _refuse_file(file, error)
        require_memory("path", str(file), size)
    return found


def _refuse_file(file: Path, error: OSError | ValueError) -> NoReturn:
    reason = error.strerror if isinstance(error, OSError) else error
    raise ConfigError("path", f"(={show(str(file))}) cannot be read: {reason}") from error


def require_files(folder: Path, names: Sequence[str]) -> None:
    """Raise a `ConfigError`, with the command that fetches published files, unless all files are in the folder."""
    files = checked(folder / name for name in names)
    missing = [file.name for file in files if not file.exists()]
    lacks = f"lacks {show(listed(missing))}; it must hold {show(listed(names))}"
    rule = lacks if folder.is_dir() else "must be a folder"
    to = "" if folder.parent == Path("data") else f" --to {folder.parent}"
    for name, source in SOURCES.items():
        if source.folder == folder.name and set(missing) <= set(source.checksums):
            rule += f"; python -m atbptt.datasets fetch {name}{to} gets it"
    require(not missing, "path", str(folder), rule)


def text_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without line ends and byte order mark; a `ConfigError` for any other file."""
    try:
        with open_file(file) as stream:
            for number, line in enumerate(stream, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    refuse(file, number, f"is not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}")
                if "\r" in text:
                    refuse(file, number, "has a carriage return within it: a line must end in a line feed")
                yield text
    except OSError as error:
        _refuse_file(file, error)


def refuse(file: Path, line: int, what: str) -> NoReturn:
    raise ConfigError("path", f"(={show(str(file.parent))}) cannot be read: line {line} of {file.name} {what}")
