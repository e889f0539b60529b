"""Files that are whole or not there: written beside, flushed to disk, renamed."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from atbptt.errors import ConfigError

# What the disk or the file system refuses, and not the program.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class StorageError(OSError):
    """The file system takes no more: it is full, read-only, broken or another's."""


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], previous: Path | None = None) -> None:
    """Call `write` on a sibling temporary file, flush it to disk and rename it to `path`.

    The temporary file's name starts with a dot; nothing is left of it if writing fails.

    Arguments:
        path: the file to replace.
        write: writes its new content.
        previous: what `path` held before is kept under this name; None keeps it nowhere.

    Raises:
        StorageError: the file system refuses; `path` is as it was.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)  # for a moment there is the previous one alone
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in REFUSALS:
            raise StorageError(_refused(path, error)) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Within, the name of a file beside `path`, which takes its place at the end unless something went wrong.

    For libraries that write to a name. Missing folders are made.

    Raises:
        StorageError: the file system refuses; what stood at `path` before is unchanged.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise StorageError(_refused(path, error)) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _temporary(path: Path) -> Path:
    # Of the machine too: several may share the folder.
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def _refused(path: Path, error: OSError) -> str:
    return f"{path} cannot be written: {error.strerror or error}; what stood there before is unchanged"


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder: a rename too is lost with the power until its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that flushes no folders
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; errors as in `write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()))


def content_digest(path: Path) -> str:
    """A digest of what a file, or every file below a folder, holds; of the path itself where there is nothing."""
    files = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    if not files:
        return str(path)
    digest = hashlib.sha256()
    for file in files:
        name = "" if file == path else str(file.relative_to(path))
        digest.update(f"{name}:{file_digest(file)}\n".encode())
    return digest.hexdigest()


def file_digest(file: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal characters; an unchanged file is read once a process."""
    found = file.stat()
    return _digest(file, found.st_mtime_ns, found.st_size)


def cache_folder() -> Path:
    """Where what can be made again is kept: the user's cache folder, or `ATBPTT_CACHE`."""
    given = os.environ.get("ATBPTT_CACHE")
    if given:
        return Path(given)
    import platformdirs  # which the library alone does without

    return platformdirs.user_cache_path("atbptt")


@functools.lru_cache(maxsize=1024)
def _digest(file: Path, changed_ns: int, size: int) -> str:  # noqa: ARG001  (a changed file is read again)
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_writable(name: str, folder: Path) -> None:
    """Raise a `ConfigError` unless files can be made in `folder`, or in what will be its parent; leaves nothing."""
    existing = folder.absolute()
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        with tempfile.TemporaryDirectory(dir=existing, prefix=".atbptt-"):
            return
    except OSError as error:
        reason = f"{existing} is no folder" if isinstance(error, NotADirectoryError) else error.strerror
        raise ConfigError(name, f"(={folder}) cannot be written: {reason}") from error
