"""Locks on files, which the operating system releases when their holder ends.

They need a file system with `flock`: local disks, NFS.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atbptt.system.reading import check_regular

# `is_held` takes a lock for some microseconds, so a first refusal does not mean that it is held.
PATIENCE_SECONDS = 0.5
RETRY_SECONDS = 0.02

_held: set[int] = set()  # file descriptors


class LockedError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def hold(path: Path, *, shared: bool = False, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is missing; alone, or together with other `shared` holders.

    Raises:
        LockedError: another process still holds it after `patience` seconds.
        OSError: the file cannot be opened, is a link, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    _held.add(descriptor)
    try:
        check_regular(descriptor, path)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockedError(f"{path} is locked by another process") from None
                time.sleep(RETRY_SECONDS)
            except OSError as error:
                rule = "its file system must support flock, as local disks and NFS do"
                raise OSError(error.errno, f"cannot be locked: {error.strerror}; {rule}", str(path)) from error
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise LockedError(f"{path} has been moved by another process")  # its holder until now
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the exclusive lock of a file, which is not made if it is missing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _release_in_child() -> None:
    """Close the files: a forked child that outlives a run would keep it locked."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)
