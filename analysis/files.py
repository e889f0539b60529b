"""Files that are whole or not there: written beside, flushed to disk, renamed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.errors import AnalysisError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Within, the name of a file beside `path`, which takes its place at the end unless something went wrong.

    Raises:
        AnalysisError: the file system refuses; what stood at `path` before is unchanged.
    """
    # Of the machine too: several may share the folder.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)  # a rename too is lost with the power until its folder is on disk
    except OSError as error:
        told = error.strerror or str(error)
        raise AnalysisError(f"{path} cannot be written: {told}; what stood there before is unchanged") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
