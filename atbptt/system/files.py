"""Files that are whole or absent: written beside their place, flushed to disk, renamed."""

import contextlib
import errno
import functools
import glob
import hashlib
import itertools
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from atbptt.errors import ConfigError, ShownError, show
from atbptt.system.reading import check_regular, open_file

# Refusals of the disk or the file system, as against errors of the program.
REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
    *(errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)


class StorageError(ShownError, OSError):
    """The file system refuses to write: it is full, read-only, broken, or without permission."""


@contextmanager
def replacing(path: Path, *, parents: bool = True, previous: Path | None = None) -> Iterator[Path]:
    """Yield the name of a file to write beside `path`; at the end it is flushed to disk and renamed to `path`.

    If anything is raised within, it is removed and `path` stays as it was; StorageError if the file system refuses.

    Arguments:
        path: the file to replace.
        parents: whether missing folders are made.
        previous: new name of the file that is replaced; None deletes it.
    """
    # The host is named since several machines may share the folder.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
            _delete_leftovers(path)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)  # for a moment only the previous file exists
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        if not parents and not path.parent.is_dir():
            raise StorageError(f"{path.parent} has been deleted or moved") from error
        if parents or error.errno in REFUSALS:
            rule = f"cannot be written: {error.strerror or error}; what stood there before is unchanged"
            raise StorageError(f"{path} {rule}") from error
        raise
    finally:
        if temporary.exists():
            temporary.unlink()


def _delete_leftovers(path: Path) -> None:
    """Delete what processes of this machine that were killed have left of the same file."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.{socket.gethostname()}.*.tmp"):
        # No number; none of a process; it runs as another user.
        with contextlib.suppress(ValueError, OverflowError, PermissionError, IsADirectoryError):
            try:
                os.kill(int(old.name.split(".")[-2]), 0)
            except ProcessLookupError:
                old.unlink(missing_ok=True)


def open_to_append(path: Path) -> int:
    """The descriptor of a file, made if it is missing, that is no link, pipe or device (OSError)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    try:
        check_regular(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    os.set_blocking(descriptor, True)
    return descriptor


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], previous: Path | None = None) -> None:
    """Replace a file in an existing folder by what `write` writes to the given stream; see `replacing`."""
    with replacing(path, parents=False, previous=previous) as temporary, open(temporary, "wb") as file:
        write(file)


def _flush_folder(folder: Path) -> None:
    """Flush a folder's names: until then a power cut undoes a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that flushes no folders
            raise
    finally:
        os.close(descriptor)


def numbered(name: str) -> Iterator[str]:
    """The name, then `name_2`, `name_3`, ...: for one that may be taken."""
    return itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))


def make_folder(folder: Path) -> None:
    """Make a folder with its parents unless it is there (StorageError)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror}") from error


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder with its parents (StorageError); at the end those that were missing go if they are empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def move_folder(folder: Path, target: Path) -> None:
    """Rename a folder to `target`, which does not exist, within one file system (StorageError); parents are made."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, target)
        _flush_folder(target.parent)
        _flush_folder(folder.parent)
    except OSError as error:
        raise StorageError(f"{folder} cannot be moved to {target}: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file in an existing folder (StorageError)."""
    write_atomically(path, lambda file: file.write(text.encode()))


def content_digest(path: Path | list[Path]) -> str:
    """A digest of the content of a file or of all files below a folder; the path itself if there is none.

    That of a list of files is of all of them, in this order (OSError if one is missing).
    """
    if isinstance(path, list):
        return hashlib.sha256("\n".join(map(file_digest, path)).encode()).hexdigest()
    files = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    if not files:
        return str(path)
    digest = hashlib.sha256()
    for file in files:
        name = "" if file == path else str(file.relative_to(path))
        digest.update(f"{name}:{file_digest(file)}\n".encode())
    return digest.hexdigest()


def file_digest(file: Path) -> str:
    """The SHA-256 of a file's content in hexadecimal; a file that does not change is read once a process."""
    found = file.stat()
    return _digest(file, found.st_mtime_ns, found.st_size)


def cache_folder() -> Path:
    """The folder for what can be made again: `ATBPTT_CACHE`, or the user's cache folder."""
    if given := os.environ.get("ATBPTT_CACHE"):
        return Path(given)
    import platformdirs  # the library alone does not depend on it

    return platformdirs.user_cache_path("atbptt")


@functools.lru_cache(maxsize=2**19)  # a data set may have many documents
def _digest(file: Path, changed_ns: int, size: int) -> str:  # noqa: ARG001  (a changed file is read again)
    with open_file(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_writable(name: str, folder: Path) -> None:
    """Raise a `ConfigError` unless `folder`, or its nearest parent that exists, can be written to; leaves no file."""
    existing = folder.absolute()
    try:
        while not (existing.exists() or existing.is_symlink()) and existing != existing.parent:
            existing = existing.parent
        if not existing.exists():
            raise ConfigError(name, f"(={show(str(folder))}) cannot be written: {existing} is a link to nowhere")
        with tempfile.TemporaryDirectory(dir=existing, prefix=".atbptt-"):
            return
    except OSError as error:
        reason = f"{existing} is no folder" if isinstance(error, NotADirectoryError) else error.strerror
        raise ConfigError(name, f"(={show(str(folder))}) cannot be written: {reason}") from error
