"""Files that somebody else may have written: read without waiting for ever, and parsed without surprises."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any

from atbptt.errors import AnalysisError, printable

MOST = 1_000_000_000  # bytes of a file that is read at once: no run writes so much of one
DEEPEST, TOO_DEEP = 100, "is nested too deep"  # lists and objects in each other in a JSON file
FILE_NAME_BYTES = 200  # most file systems take 255, and names of temporary files are longer


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file to read it; an OSError if it is a folder, a pipe or a device, which might never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer would wait
    try:
        check_regular(descriptor, path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(descriptor: int, path: str | os.PathLike[str]) -> None:
    """Raise an OSError unless an open file is a regular one."""
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", os.fspath(path))
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, "is a pipe or a device, not a file", os.fspath(path))


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a file of at most `MOST` bytes (OSError, see `open_file`)."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST:
            raise OSError(errno.EFBIG, f"has {size:,} bytes, must have at most {MOST:,}", os.fspath(path))
        return file.read()


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file (OSError, ValueError)."""
    try:
        content = json.loads(read_file(path))
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    level = [content]
    for _ in range(DEEPEST):
        level = [part for each in level for part in _parts(each) if isinstance(part, list | dict)]
        if not level:
            return content
    raise ValueError(TOO_DEEP)  # to show it, or to store it again, may take more frames than there are


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def is_file_name(text: object) -> bool:
    """Whether a text is the name of one file in a folder, and stays there: no path, no control characters."""
    return (
        isinstance(text, str)
        and text not in ("", ".", "..")
        and not set(text) & set("/\\\n\t")
        and printable(text) == text
        and len(text.encode()) <= FILE_NAME_BYTES
    )


def cut_name(text: str, most: int) -> str:
    """A name of a file of at most so many bytes; two that are cut stay two, by a hash."""
    content = text.encode(errors="replace")
    if len(content) <= most:
        return text
    return content[: most - 9].decode(errors="ignore") + "-" + hashlib.sha256(content).hexdigest()[:8]


def check_inside(path: Path, folder: Path) -> None:
    """Raise an AnalysisError if a link leads from within a folder to a path elsewhere."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise AnalysisError(f"{path}: a link leads out of {folder}; delete it, or give another folder to write to")


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether a path can be written to tables and pages: names on a disk may be any bytes."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
