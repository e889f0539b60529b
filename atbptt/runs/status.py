"""The state of a run, from its status file and its lock. Changes nothing, and needs no torch.

The status file has what the run last wrote, which a killed run cannot correct. Its lock tells whether a process still
works on it: the operating system frees the lock however the process ends.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from atbptt.errors import line_of, listed, printable, show
from atbptt.runs.schema import FAILED, FINISHED, ID, INTERRUPTED, LOCK, RUNNING, STATUS
from atbptt.system import is_file_name, locks, read_json

# States besides those that a status file can have.
WAITING = "waiting"  # not begun
STALE = "stale"  # running by its status file, but killed or hanging
UNKNOWN = "unknown"  # the status file cannot be read
STATES = (RUNNING, WAITING, FINISHED, INTERRUPTED, STALE, FAILED, UNKNOWN)
ENDED = (FINISHED, FAILED, INTERRUPTED)
BUDGET = ("epochs", "seconds", "patience")  # options, in the order of `RunStatus.reached`

SILENT_SECONDS = 600.0  # without a heartbeat, after which a run is stale; a long evaluation or probe may take minutes
LOOKS = 3  # at a run whose status changes meanwhile

# Entries that are numbers, and the least and most that they may be; others count as missing.
LATEST = 253_402_128_000.0  # the year 10000 less two days: zones differ by 14 hours, and Python looks a day ahead
LARGEST = sys.float_info.max
WHOLE_NUMBERS = ("K", "pid", "attempt")
NUMBERS = {
    **dict.fromkeys(("started", "heartbeat"), (0.0, LATEST)),
    **dict.fromkeys(("train_seconds", "seconds", "elapsed"), (-LATEST, LATEST)),
    **dict.fromkeys(
        ("epoch", "epochs", "first_epoch", "best", "best_epoch", "waited", "patience"), (-LARGEST, LARGEST)
    ),
    **dict.fromkeys(WHOLE_NUMBERS, (-(2.0**53), 2.0**53)),
}
TEXTS = ("monitor", "host", "sweep", "why")
TEXT_LENGTH = 2000  # characters of one; of our own, no error is longer


@dataclass(frozen=True)
class RunStatus:
    """The state of one run; unknown values are None."""

    directory: Path  # as given
    state: str  # one of `STATES`, as observed: `running` if a process holds the run and its heartbeat is not too old
    experiment_id: str  # as stored, or the directory's name
    why: str | None = None  # in one line, why the run is failed, interrupted, stale or unknown
    epoch: float | None = None  # progress ...
    epochs: float | None = None  # ... and its budget
    train_seconds: float | None = None  # time spent in training (s) ...
    seconds: float | None = None  # ... and its budget
    waited: float | None = None  # epochs without a better evaluation ...
    patience: float | None = None  # ... and how many may be
    K: int | None = None  # truncation length (steps)
    monitor: str | None = None  # the metric that is monitored ...
    best: float | None = None  # ... its lowest value so far ...
    best_epoch: float | None = None  # ... and the epoch of that
    host: str | None = None  # where the process runs or ran
    pid: int | None = None
    sweep: str | None = None  # name of the sweep's folder below `.sweeps`
    attempt: int | None = None  # how often the run was begun
    started: float | None = None  # when this attempt began (unix time by the run's clock)
    heartbeat: float | None = None  # when the status was last written (unix time by the run's clock)
    elapsed: float | None = None  # length of this attempt (s, by the monotonic clock)
    first_epoch: float | None = None  # epoch at which this attempt began
    stamp: tuple[int, int, int] | None = field(default=None, repr=False, compare=False)  # changes with the status file

    @property
    def speed(self) -> float | None:
        """Epochs per second of this attempt, evaluations and probes included."""
        if self.epoch is None or not self.elapsed:
            return None
        advanced = self.epoch - (self.first_epoch or 0.0)
        return advanced / self.elapsed if advanced > 0 and self.elapsed > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the run reaches its budget at its present speed."""
        if self.speed is None or self.epoch is None:
            return None
        left = [] if self.epochs is None else [self.epochs - self.epoch]
        if self.seconds is not None and self.train_seconds and self.epoch > 0:
            # Evaluations do not count in the budget of seconds: convert what is left of it to epochs first.
            left.append((self.seconds - self.train_seconds) * self.epoch / self.train_seconds)
        return max(min(left), 0.0) / self.speed if left else None

    def reached(self, epochs: float | None, seconds: float | None, patience: float | None = None) -> bool:
        """Whether the run has finished with this budget or more; yes for a finished run of unknown progress."""
        if self.state != FINISHED or epochs is None or self.epoch is None:
            return self.state == FINISHED
        others = ((self.train_seconds, seconds), (self.waited, patience))
        return self.epoch >= epochs or any(most is not None and (spent or 0.0) >= most for spent, most in others)


def read_run(directory: Path, known: RunStatus | None = None) -> RunStatus:
    """The status of the run in a directory; `waiting` if there is no such directory.

    A `known` status is returned again if the run had ended then, and its status file has not changed.
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
        return replace(status, state=RUNNING) if held else status  # it has begun, and not written its status yet
    if held is False:
        where = "before its first step" if status.epoch is None else f"at epoch {status.epoch:.3g}"
        return replace(status, state=STALE, why=f"killed {where}")
    silent = _silence(status)
    if silent > SILENT_SECONDS:
        return replace(status, state=STALE, why=f"no heartbeat for {duration_text(silent)}")
    return status


def result_text(status: RunStatus) -> str:
    """`epoch 12.5 of 30, K 9, valid_ppl 1.02 at epoch 11`; or why the run failed.

    One that ended by its patience: `epoch 12 of 30, no better for 3, K 9, ...`.
    """
    if status.why:
        return status.why
    if status.epoch is None:
        return ""
    text = f"epoch {status.epoch:.3g}" + ("" if status.epochs is None else f" of {status.epochs:g}")
    if status.state == FINISHED and status.patience is not None and (status.waited or 0.0) >= status.patience:
        text += f", no better for {status.waited:.3g}"
    text += "" if status.K is None else f", K {status.K}"
    if status.best is not None and status.best_epoch is not None:
        text += f", {status.monitor} {status.best:.4g} at epoch {status.best_epoch:.3g}"
    return text


def duration_text(seconds: float) -> str:
    """A duration in one or two units: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    if not 59.5 <= seconds < LATEST:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    counts = (minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")
    return " ".join(f"{count} {unit}" for count, unit in (counts[:2] if minutes >= 1440 else counts[1:]) if count)


def reason(error: BaseException) -> str:
    """Why a file could not be read, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() if isinstance(error, FileNotFoundError) else error.strerror
    return printable((str(error).splitlines() or [type(error).__name__])[0][:160])


def read_status(directory: Path) -> dict[str, Any]:
    """The entries of a run's status.json; none if it cannot be read. Numbers of the wrong type are left out."""
    try:
        stored = _content(directory)
    except (OSError, ValueError):
        return {}
    if not is_file_name(stored.get(ID)):
        stored.pop(ID, None)
    known = stored.items()
    return {name: value for name, value in known if name not in NUMBERS or _number(name, value) is not None}


def checked(stored: Mapping[str, Any], states: Sequence[str] = STATES) -> dict[str, Any]:
    """The fields of a `RunStatus` among entries that somebody stored, None for those of the wrong type.

    Directory, id and stamp are not among them. A ValueError for a state that is none of `states`.
    """
    state = stored.get("state")
    if state not in states:
        raise ValueError(f"state (={show(state)}) must be one of {listed(states)}")
    found: dict[str, Any] = {name: _number(name, stored.get(name)) for name in NUMBERS}
    whole = {name: int(number) for name in WHOLE_NUMBERS if (number := found[name]) is not None}
    return {"state": state, **found, **whole, **{name: _text(stored.get(name)) for name in TEXTS}}


def _content(directory: Path) -> dict[str, Any]:
    stored = read_json(os.path.join(directory, STATUS))
    return stored if isinstance(stored, dict) else {}


def _stamp(directory: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(os.path.join(directory, STATUS))
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _stored(directory: Path) -> RunStatus:
    nothing = RunStatus(directory, WAITING, directory.name, stamp=_stamp(directory))
    try:
        stored = _content(directory)
    except (FileNotFoundError, NotADirectoryError):
        return nothing
    except (OSError, ValueError) as error:
        return replace(nothing, state=UNKNOWN, why=f"{STATUS}: {reason(error)}")
    try:
        found = checked({**stored, "why": None}, (RUNNING, *ENDED))
    except ValueError as error:
        return replace(nothing, state=UNKNOWN, why=f"{STATUS}: {error}")
    if found["state"] in (FAILED, INTERRUPTED):
        at = "" if found["epoch"] is None else f" at epoch {found['epoch']:.3g}"
        told = stored.get("error")
        in_a_line = " ".join(told.split()) if isinstance(told, str) else None
        found["why"] = _text(in_a_line) or ("no reason stored" if found["state"] == FAILED else f"interrupted{at}")
    if is_file_name(own_id := stored.get(ID)):
        found[ID] = own_id
    return replace(nothing, **found)


def _number(name: str, value: object) -> float | None:
    """The value of an entry that is a number, if it is one, and none that is too small or too large; else None."""
    least, most = NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        return None
    return float(value)


def _text(value: object) -> str | None:
    return line_of(value, TEXT_LENGTH) if isinstance(value, str) else None


def _held(directory: Path) -> bool | None:
    try:
        return locks.is_held(directory / LOCK)
    except NotADirectoryError:
        return False
    except OSError:  # the file system has no locks
        return None


def _silence(status: RunStatus) -> float:
    """Seconds since the last sign of life of a running run: the least by any clock, since clocks disagree and jump.

    On the run's own machine, the age of its process less `elapsed` bounds them, whatever the clock says.
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
