"""Files that are whole or not there: written beside, flushed to disk, renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from atbptt.errors import ConfigError


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call `write` on a sibling temporary file, flush it to disk and rename it to `path`.

    The temporary file's name starts with a dot; nothing is left of it if writing fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def check_writable(name: str, folder: Path) -> None:
    """Raise a `ConfigError` unless files can be made in `folder`, or in what will be its parent; leaves nothing."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".atbptt-"):
            return
    except OSError as error:
        reason = f"{existing} is no folder" if not existing.is_dir() else error.strerror
        raise ConfigError(name, f"(={folder}) cannot be written: {reason}") from error
