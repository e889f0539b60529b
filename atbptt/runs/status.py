"""What state a run is in, by its status file and its lock: reads, starts and changes nothing, and needs no torch.

The status file has what the run said last; a run that was killed says nothing. Whether a process still works on it,
its lock tells, which the operating system takes back however the process ends.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from atbptt.runs.schema import FAILED, FINISHED, INTERRUPTED, LOCK, RUNNING, STATUS
from atbptt.system import locks

# Beside what a status file can say.
WAITING = "waiting"  # not begun
STALE = "stale"  # it says running, but was killed or hangs
UNKNOWN = "unknown"  # the status file cannot be read
STATES = (RUNNING, WAITING, FINISHED, INTERRUPTED, STALE, FAILED, UNKNOWN)
ENDED = (FINISHED, FAILED, INTERRUPTED)  # as the run itself said

# A run beats every few seconds, but not within an evaluation or a probe.
SILENT_SECONDS = 600.0
LOOKS = 3  # at a run that changes while it is looked at

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class RunStatus:
    """The state of one run; what is not known is None.

    Attributes:
        directory: the run's directory, as given.
        state: one of `STATES`, as observed: `running` if a process holds the run and has been heard of.
        why: in one line, why the run is failed, interrupted, stale or unknown.
        experiment_id: as stored, or the directory's name.
        epoch, epochs: how far the run is, and its budget.
        train_seconds, seconds: time spent in training (s), and its budget.
        K: truncation length (steps).
        monitor, best, best_epoch: what is minimised, its least value so far, and where that was.
        host, pid: where the process runs or ran.
        sweep: name of the sweep's folder below `.sweeps`.
        attempt: how many times the run was begun.
        started, heartbeat: when this attempt began and when it was last heard of (unix time by the run's clock).
        elapsed, first_epoch: length of this attempt (s, by the monotonic clock), and the epoch at which it began.
        stamp: changes with the status file.
    """

    directory: Path
    state: str
    experiment_id: str
    why: str | None = None
    epoch: float | None = None
    epochs: float | None = None
    train_seconds: float | None = None
    seconds: float | None = None
    K: int | None = None
    monitor: str | None = None
    best: float | None = None
    best_epoch: float | None = None
    host: str | None = None
    pid: int | None = None
    sweep: str | None = None
    attempt: int | None = None
    started: float | None = None
    heartbeat: float | None = None
    elapsed: float | None = None
    first_epoch: float | None = None
    stamp: Stamp | None = field(default=None, repr=False, compare=False)

    @property
    def speed(self) -> float | None:
        """Epochs per second of this attempt, evaluations and probes included."""
        if self.epoch is None or not self.elapsed:
            return None
        advanced = self.epoch - (self.first_epoch or 0.0)
        return advanced / self.elapsed if advanced > 0 and self.elapsed > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the run reaches its budget, in epochs or in seconds of training, at its present speed."""
        if self.speed is None or self.epoch is None:
            return None
        left = [] if self.epochs is None else [self.epochs - self.epoch]
        if self.seconds is not None and self.train_seconds and self.epoch > 0:
            # The clock of the budget stands still in evaluations: what is left of it counts in epochs first.
            left.append((self.seconds - self.train_seconds) * self.epoch / self.train_seconds)
        return max(min(left), 0.0) / self.speed if left else None

    def reached(self, epochs: float | None, seconds: float | None) -> bool:
        """Whether the run has come as far as a budget; one that did not say how far it came is taken at its word."""
        if self.state != FINISHED or epochs is None or self.epoch is None:
            return self.state == FINISHED
        return self.epoch >= epochs or (seconds is not None and (self.train_seconds or 0.0) >= seconds)


def read_run(directory: Path, known: RunStatus | None = None) -> RunStatus:
    """The status of the run in a directory; of a directory that is not there, `waiting`.

    Arguments:
        directory: the run's directory.
        known: what was read before: kept if the run had ended then and its file has not changed.
    """
    if known is not None and known.state in ENDED and known.stamp == _stamp(directory):
        return known
    for _ in range(LOOKS):
        status = _stored(directory)
        if status.state in ENDED:
            return status
        held = _held(directory)
        if held or status.stamp == _stamp(directory):
            break  # else it ended, or began, between the two looks
    if status.state != RUNNING:
        return replace(status, state=RUNNING) if held else status  # it has begun, and said nothing yet
    if held is False:
        where = "before its first step" if status.epoch is None else f"at epoch {status.epoch:.3g}"
        return replace(status, state=STALE, why=f"killed {where}")
    silent = _silence(status)
    if silent > SILENT_SECONDS:
        return replace(status, state=STALE, why=f"no heartbeat for {duration_text(silent)}")
    return status


def result_text(status: RunStatus) -> str:
    """How far a run is and the best it found: `epoch 12.5 of 30, K 9, valid_ppl 1.02 at epoch 11`; or why it failed."""
    if status.why:
        return status.why
    if status.epoch is None:
        return ""
    text = f"epoch {status.epoch:.3g}" + ("" if status.epochs is None else f" of {status.epochs:g}")
    text += "" if status.K is None else f", K {status.K}"
    if status.best is not None and status.best_epoch is not None:
        text += f", {status.monitor} {status.best:.4g} at epoch {status.best_epoch:.3g}"
    return text


def duration_text(seconds: float) -> str:
    """A length of time as a person says it: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def reason(error: BaseException) -> str:
    """Why a file could not be read, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() if isinstance(error, FileNotFoundError) else error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _stamp(directory: Path) -> Stamp | None:
    try:
        found = os.stat(os.path.join(directory, STATUS))
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _stored(directory: Path) -> RunStatus:
    """What the status file says, whoever still stands by it."""
    stamp = _stamp(directory)
    nothing = RunStatus(directory, WAITING, directory.name, stamp=stamp)
    try:
        with open(os.path.join(directory, STATUS), "rb") as file:
            stored = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return nothing
    except (OSError, ValueError, RecursionError) as error:
        return replace(nothing, state=UNKNOWN, why=f"{STATUS}: {reason(error)}")
    state = stored.get("state") if isinstance(stored, dict) else None
    if state not in (RUNNING, *ENDED):
        rule = f"must be one of {', '.join((RUNNING, *ENDED))}"
        return replace(nothing, state=UNKNOWN, why=f"{STATUS}: state (={state!s:.40}) {rule}")
    read = RunStatus(
        directory,
        state,
        _text(stored, "experiment_id") or directory.name,
        epoch=number(stored, "epoch"),
        epochs=number(stored, "epochs"),
        train_seconds=number(stored, "train_seconds"),
        seconds=number(stored, "seconds"),
        K=_integer(stored, "K"),
        monitor=_text(stored, "monitor"),
        best=number(stored, "best"),
        best_epoch=number(stored, "best_epoch"),
        host=_text(stored, "host"),
        pid=_integer(stored, "pid"),
        sweep=_text(stored, "sweep"),
        attempt=_integer(stored, "attempt"),
        started=number(stored, "started"),
        heartbeat=number(stored, "heartbeat"),
        elapsed=number(stored, "elapsed"),
        first_epoch=number(stored, "first_epoch"),
        stamp=stamp,
    )
    if state in (FAILED, INTERRUPTED):
        at = "" if read.epoch is None else f" at epoch {read.epoch:.3g}"
        stored_error = " ".join((_text(stored, "error") or "").split())
        return replace(read, why=stored_error or ("no reason stored" if state == FAILED else f"interrupted{at}"))
    return read


def number(stored: dict[str, Any], name: str) -> float | None:
    """An entry of a status file, None if it is no finite number."""
    value = stored.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _integer(stored: dict[str, Any], name: str) -> int | None:
    value = number(stored, name)
    return None if value is None else int(value)


def _text(stored: dict[str, Any], name: str) -> str | None:
    value = stored.get(name)
    return value if isinstance(value, str) else None


def _held(directory: Path) -> bool | None:
    """Whether a process holds the run; None where the file system does not say."""
    try:
        return locks.is_held(directory / LOCK)
    except NotADirectoryError:
        return False
    except OSError:
        return None


def _silence(status: RunStatus) -> float:
    """Seconds since a running run was last heard of: the least that any clock says, since clocks jump.

    The heartbeat is of the clock of the run's machine, the file's time of the file system's, and neither needs to
    agree with ours. On the run's own machine nothing but the age of its process is needed, which no change of the
    clock moves: what is not in `elapsed` came after the last heartbeat, or before the attempt.
    """
    now = time.time()
    heard = [status.stamp[0] / 1e9] if status.stamp else []
    heard += [] if status.heartbeat is None else [status.heartbeat]
    silent = now - max(heard, default=now)
    if silent > SILENT_SECONDS and status.host == socket.gethostname() and status.pid and status.elapsed is not None:
        age = _process_age(status.pid)
        silent = silent if age is None else min(silent, age - status.elapsed)
    return silent


def _process_age(pid: int) -> float | None:
    """Seconds since a process of this machine began, by the clock that counts from boot; None if unknown."""
    try:
        began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age = float(Path("/proc/uptime").read_text().split()[0]) - began
    except (OSError, ValueError, IndexError):
        return None
    return age if age >= 0 else None  # in some containers the two count from different moments
