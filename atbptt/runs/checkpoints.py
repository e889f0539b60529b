"""A run's checkpoint file, and the previous one, which is used if the last one is damaged."""

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

from atbptt.runs.schema import CHECKPOINT, PREVIOUS_CHECKPOINT
from atbptt.system import write_atomically

FORMAT = 2  # of a checkpoint's content; another number is refused
DIGEST_BYTES = hashlib.sha256().digest_size  # at the file's end: torch does not notice changed numbers


class CheckpointError(RuntimeError):
    """A checkpoint that is whole but cannot be continued from."""


class DamagedError(RuntimeError):
    """A file whose content has changed since it was written."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint and keep the previous one; on a StorageError both are unchanged."""
    import torch

    buffer = io.BytesIO()  # torch's own writer would report a full disk as an internal error
    torch.save({"format": FORMAT, **state}, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    write_atomically(folder / CHECKPOINT, lambda file: file.write(buffer.getbuffer()), folder / PREVIOUS_CHECKPOINT)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Loading runs code that the file names (pickle): it must be trusted.

    Raises:
        DamagedError: the file has changed since it was written.
        CheckpointError: another version of the package wrote it, in another format.
        Exception: it cannot be loaded, for example because a class in it no longer exists.
    """
    import torch

    content = path.read_bytes()
    if hashlib.sha256(content[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
        raise DamagedError(f"{path} is damaged")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    found = state.get("format") if isinstance(state, dict) else None
    if found == FORMAT:
        return dict(state)
    raise CheckpointError(f"{path} was stored by another version of atbptt (format {found}, this one reads {FORMAT})")


def load(folder: Path, log: logging.Logger) -> dict[str, Any] | None:
    """The last checkpoint that is not damaged, or None; damaged ones are deleted. Errors as in `read_checkpoint`."""
    damaged = False
    for path in (folder / CHECKPOINT, folder / PREVIOUS_CHECKPOINT):
        if not path.exists():
            continue
        try:
            return read_checkpoint(path)
        except DamagedError:
            damaged = True
            log.warning("%s is damaged and left out", path.name)
            path.unlink()  # else the next checkpoint would keep it as the previous one
        except CheckpointError as error:
            raise CheckpointError(f"{error}; move its folder away to begin anew") from error
    if damaged:
        log.warning("no checkpoint can be read: the run begins anew")
    return None
