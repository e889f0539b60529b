"""A run's checkpoint file, and the previous one, which is used if the last one is damaged.

It holds tensors and plain values only: reading one that somebody else has written runs no code.
"""

import errno
import hashlib
import io
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atbptt.errors import ShownError, described, show
from atbptt.runs.schema import BEST, CHECKPOINT, ID, PREVIOUS_BEST, PREVIOUS_CHECKPOINT
from atbptt.system import lack_of_memory, open_file, plain, write_atomically

FORMAT = 2  # of a checkpoint's content; another number is refused
BEGIN_ANEW = "move its folder away to begin anew"
ZIP = b"PK\x03\x04"  # begins what torch.save writes
DIGEST_BYTES = hashlib.sha256().digest_size  # at the file's end: torch does not notice changed numbers
COPIES = 2  # in memory at a time: the file's bytes, and the tensors that are made of them


class CheckpointError(ShownError, RuntimeError):
    """A checkpoint that is whole but cannot be continued from."""


class DamagedError(ShownError, RuntimeError):
    """A file whose content has changed since it was written."""


def save(folder: Path, state: dict[str, Any], name: str = CHECKPOINT, previous: str = PREVIOUS_CHECKPOINT) -> None:
    """Replace a checkpoint and keep the previous one; on a StorageError both are unchanged.

    A CheckpointError if the state has more than tensors and plain values.
    """
    import torch

    try:
        content = plain({"format": FORMAT, **state}, "state")
    except TypeError as error:
        raise CheckpointError(f"{folder / name} cannot be stored: {error}") from error
    buffer = io.BytesIO()  # torch's own writer would report a full disk as an internal error
    torch.save(content, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    write_atomically(folder / name, lambda file: file.write(buffer.getbuffer()), folder / previous)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Nothing in the file is run.

    Raises:
        DamagedError: the file has changed since it was written.
        CheckpointError: it holds objects of other classes, or another version of the package wrote it.
        OSError: it cannot be read, or is too large for the memory.
    """
    import torch

    content, digest = _read(path)
    if hashlib.sha256(content).digest() != digest:
        raise DamagedError(f"{path} is damaged")
    if not content.startswith(ZIP):  # torch reads other formats, too
        raise CheckpointError(f"{path} is no checkpoint of a run")
    try:
        packed = _is_packed(content)
        state: Any = None if packed else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        packed = packed or _has_more_values(state, len(content))
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of {found[1]}" if found else "more than tensors and plain values"
        raise CheckpointError(f"{path} holds {what}, which is not loaded, since that could run code") from error
    except Exception as error:  # of zip files and torch's C++
        raise CheckpointError(f"{path} is no checkpoint of a run: {described(error)}") from error
    if packed:
        raise CheckpointError(f"{path} is no checkpoint of a run: it unpacks to more than it has bytes")
    found = state.get("format") if isinstance(state, dict) else None
    if found == FORMAT:
        return dict(state)
    shown = f"format {show(found)}, this one reads {FORMAT}"
    raise CheckpointError(f"{path} was stored by another version of atbptt ({shown})")


def _read(path: Path) -> tuple[bytes, bytes]:
    """A file's content and its digest; an OSError for more than memory can hold."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if lack := lack_of_memory(COPIES * size):
            raise OSError(errno.EFBIG, f"has {size:,} bytes, {lack}", str(path))
        return file.read(max(size - DIGEST_BYTES, 0)), file.read(DIGEST_BYTES)


def _is_packed(content: bytes) -> bool:
    """Whether a zip file is larger unpacked, by compression or parts that share bytes; torch stores each as it is."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
    return any(part.compress_type for part in parts) or sum(part.file_size for part in parts) > len(content)


def _has_more_values(state: object, most: int) -> bool:
    """Whether a state has more than so many values, counting again what it repeats, as in lists of twice one list."""
    waiting, count = [state], 0
    while waiting and count <= most:
        part = waiting.pop()
        count += 1
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set):
            waiting += part
    return count > most


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Report what is raised while parts of a run take over a checkpoint as a CheckpointError."""
    try:
        yield
    except Exception as error:  # what is stored may be anything, also for a user's own class
        rule = f"does not fit the run, whose classes may have changed: {described(error)}"
        raise CheckpointError(f"{path} {rule}; {BEGIN_ANEW}") from error


def check_id(path: Path, state: Mapping[str, Any], experiment_id: str) -> None:
    """Raise a CheckpointError for the checkpoint of another run; earlier versions did not store whose it is."""
    found = state.get(ID, experiment_id)
    if found != experiment_id:
        raise CheckpointError(f"{path} is a checkpoint of the run {show(found)}, not of {experiment_id}")


def keep_best(folder: Path, experiment_id: str, best: object, log: logging.Logger) -> None:
    """Of the models stored at a best evaluation, keep that of this one, and delete others.

    A run that continues repeats the evaluations since its checkpoint, or with a larger budget has none there. OSError
    if one cannot be read.
    """
    for path in (folder / BEST, folder / PREVIOUS_BEST):
        try:
            state = read_checkpoint(path)
            check_id(path, state, experiment_id)
            if state.get("best") == best:
                path.replace(folder / BEST)
                return
        except FileNotFoundError:
            continue
        except (DamagedError, CheckpointError) as error:
            log.warning("%s, and deleted", error)
        path.unlink()


def load(folder: Path, experiment_id: str, log: logging.Logger) -> dict[str, Any] | None:
    """The last checkpoint that is not damaged, or None; damaged ones are deleted.

    Errors as in `read_checkpoint`, and a CheckpointError for one of another run.
    """
    damaged = False
    for path in (folder / CHECKPOINT, folder / PREVIOUS_CHECKPOINT):
        if not path.exists():
            continue
        try:
            state = read_checkpoint(path)
            check_id(path, state, experiment_id)
            return state
        except DamagedError:
            damaged = True
            log.warning("%s is damaged and left out", path.name)
            path.unlink()  # else the next checkpoint would keep it as the previous one
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {BEGIN_ANEW}") from error
    if damaged:
        log.warning("no checkpoint can be read: the run begins anew")
    return None
