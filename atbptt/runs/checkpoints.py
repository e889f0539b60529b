"""A run's checkpoint file, and the one before it, which is used where the last one is damaged."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

from atbptt.runs.schema import CHECKPOINT, PREVIOUS_CHECKPOINT
from atbptt.system import write_atomically

FORMAT = 2  # of what a checkpoint holds; another number is refused, never guessed at
DIGEST_BYTES = hashlib.sha256().digest_size  # at the file's end: torch would read changed numbers without a word


class CheckpointError(RuntimeError):
    """A checkpoint that is whole but cannot be continued from."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint and keep the one before it.

    It is written in memory first: torch's own writer takes a full disk for a bug of its own.

    Raises:
        StorageError: the file system refuses; both checkpoints are as they were.
    """
    import torch

    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    write_atomically(folder / CHECKPOINT, lambda file: file.write(buffer.getbuffer()), folder / PREVIOUS_CHECKPOINT)


class DamagedError(RuntimeError):
    """A file that is not as it was written."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint's file holds, on the CPU; nothing is changed.

    It may hold a user's own objects: read only what you trust.

    Raises:
        DamagedError: it is not as it was written.
        CheckpointError: it was stored by a version of the package that stored something else.
        Exception: it cannot be read, or what it holds cannot be loaded, such as an object whose class is gone.
    """
    import torch

    content = path.read_bytes()
    if hashlib.sha256(content[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
        raise DamagedError(f"{path} is damaged")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        problem = f"was stored by another version of atbptt (format {found}, this one reads {FORMAT})"
        raise CheckpointError(f"{path} {problem}")
    return dict(state)


def load(folder: Path, log: logging.Logger) -> dict[str, Any] | None:
    """The last checkpoint that can be read, on the CPU, or None where there is none.

    Raises:
        CheckpointError: it was stored by a version of the package that stored something else.
    """
    damaged = []
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        path = folder / name
        if not path.exists():
            continue
        try:
            return read_checkpoint(path)
        except DamagedError:
            damaged.append(name)
            log.warning("%s is damaged and left out", name)
            path.unlink()  # it must not take the place of the one before when the next is stored
        except CheckpointError as error:
            raise CheckpointError(f"{error}; move its folder away to begin anew") from error
    if damaged:
        log.warning("no checkpoint can be read: the run begins anew")
    return None
