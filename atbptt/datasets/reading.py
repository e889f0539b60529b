"""Reads a user's text files; errors name the file and the line."""

import codecs
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NoReturn

from atbptt.datasets.sources import SOURCES
from atbptt.errors import ConfigError, listed, require, show
from atbptt.system import open_file, require_memory

MOST_DOCUMENTS = 100_000  # files of a folder
BLOCK = 2**22  # bytes that are read at once


def checked(files: Iterable[Path]) -> list[Path]:
    """The files; a `ConfigError` if one that exists is a folder, a pipe or a device, or larger than memory.

    Its content need not be read, which could take for ever.
    """
    found = list(files)
    for file in found:
        with suppress(FileNotFoundError, NotADirectoryError):
            require_memory("path", str(file), _size(file))
    return found


def documents(folder: Path) -> list[Path]:
    """All files at and below a folder, sorted by path, without hidden ones and those in hidden folders.

    Raises:
        ConfigError: there is none, or one that is no regular file, or too many, or they are larger than memory.
    """

    def fail(error: OSError) -> NoReturn:
        _refuse_file(error.filename, error)

    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, name) for name in names if not name.startswith(".")]
        rule = f"must hold at most {MOST_DOCUMENTS:,} files: join some of them"
        require(len(found) <= MOST_DOCUMENTS, "path", str(folder), rule)
    require(len(found) > 0, "path", str(folder), "must hold documents, and there is no file in it")
    found.sort()
    try:
        size = sum(map(_size, found))
    except FileNotFoundError as error:  # a link to nowhere
        fail(error)
    require_memory("path", str(folder), size)
    return [*map(Path, found)]


def _size(file: Path | str) -> int:
    """The bytes of a file; FileNotFoundError or NotADirectoryError if there is none, else a `ConfigError`."""
    try:
        with open_file(file) as stream:
            return os.fstat(stream.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:  # a ValueError is a path that no file can have
        _refuse_file(file, error)


def _refuse_file(file: Path | str, error: OSError | ValueError) -> NoReturn:
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


def text_blocks(file: Path) -> Iterator[str]:
    """The text of `text_lines` in large parts, with a line feed wherever the file has a line end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    returns = ""  # at the end of a part: a line feed may follow
    try:
        for number, block in enumerate(chain(file_blocks(file), [b""])):
            mark = codecs.BOM_UTF8 if number == 0 else b""
            text = returns + decoder.decode(block.removeprefix(mark), final=not block)
            part = text.rstrip("\r")
            returns = text[len(part) :]
            if "\r" in part:
                part = "\n".join(line.rstrip("\r") for line in part.split("\n"))
            if "\r" in part:
                raise ValueError("a carriage return within a line")
            yield part
    except ValueError:
        deque(text_lines(file), maxlen=0)  # refuses the line
        raise


def file_blocks(file: Path) -> Iterator[bytes]:
    """The content of a file in large parts; a `ConfigError` if it cannot be read."""
    try:
        with open_file(file) as stream:
            while block := stream.read(BLOCK):
                yield block
    except OSError as error:
        _refuse_file(file, error)


def refuse(file: Path, line: int, what: str) -> NoReturn:
    raise ConfigError("path", f"(={show(str(file.parent))}) cannot be read: line {line} of {file.name} {what}")
