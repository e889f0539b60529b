"""A run's directory: options, metrics, lag profiles, predictions, status, log, checkpoint.

`outputs/<experiment>/<experiment_id>/`. Every file but the log is replaced atomically, so that what a reader
or a crash finds is whole. The checkpoint is written after the metrics, holds them too, and decides how far the run
got: rows beyond it are dropped when the run continues, and a table that somebody damaged is restored from it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import OmegaConf

from atbptt.config import Settings
from atbptt.errors import described
from atbptt.runs import checkpoints, provenance, schema, tables
from atbptt.runs.status import number
from atbptt.runs.tables import Tables, digest
from atbptt.system import StorageError, locks, write_text

# What others read of a run: of a finished one it must be as the run left it.
KEPT = (schema.CONFIG, schema.OPTIONS, *tables.SCHEMAS)
# Entries of status.json that tell of the process that worked on the run.
ITS_OWN = ("host", "pid", "heartbeat", "elapsed")
# Entries that are counted with.
NUMBERS = ("attempt", "epoch", "train_seconds", "best", "best_epoch", "K")


class BusyError(RuntimeError):
    """Another process works on the run."""


class RunDirectory:
    """The files of one run.

    Arguments:
        settings: the run's config; `output_dir`, `name` and the experiment id make the path.
        experiment_id: as it was planned, whatever the data have become since; None: of the settings and their data.
    """

    def __init__(self, settings: Settings, experiment_id: str | None = None) -> None:
        self.settings = settings
        self.experiment_id = experiment_id or settings.experiment_id
        self.path = Path(settings.output_dir) / settings.name / self.experiment_id
        self.tables = Tables(self.path)
        self._status: dict[str, Any] = {}
        self._began = time.monotonic()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the directory and hold it; the operating system frees the lock of a process that ended.

        Raises:
            BusyError: another process holds it.
            StorageError: the directory cannot be made.
        """
        self.make()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locks.hold(self.path / schema.LOCK))
            except locks.LockedError as error:
                raise BusyError(f"{self.path} is being run by another process") from error
            yield

    def make(self) -> None:
        """Make the directory if it is not there (StorageError)."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be made: {error.strerror}") from error

    def busy(self) -> bool:
        """Whether a process holds the run."""
        return locks.is_held(self.path / schema.LOCK)

    def status(self) -> dict[str, Any]:
        """What status.json says, empty if there is none."""
        return read_status(self.path)

    def finished(self) -> bool:
        """Whether the run has reached the budget that the settings ask for, and its files are as it left them."""
        status = self.status()
        return self.spent(status) and self._as_left(status.get("files"))

    def _as_left(self, digests: object) -> bool:
        """Whether the files that others read have the digests that the run noted when it finished."""
        return isinstance(digests, dict) and {*KEPT} <= digests.keys() and digests == self._digests()

    def _digests(self) -> dict[str, int | None]:
        return {name: digest(self.path / name) for name in KEPT}

    def spent(self, status: Mapping[str, Any]) -> bool:
        """Whether a status tells of the budget that the settings ask for, reached."""
        return status.get("state") == schema.FINISHED and self.settings.budget_spent(
            status.get("epoch", 0), status.get("train_seconds", 0)
        )

    def begin(self, origin: provenance.Origin) -> None:
        """Say running, clear what a killed process left half written, store the config and the options."""
        before = self.status()
        self._status = {**before, "epochs": self.settings.epochs, "seconds": self.settings.seconds}
        self._began = time.monotonic()
        attempt = int(before.get("attempt", 0)) + 1
        first = before.get("epoch", 0.0)
        self.set_status(
            schema.RUNNING, error=None, sweep=origin.sweep, attempt=attempt, started=time.time(), first_epoch=first
        )
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        write_text(self.path / schema.CONFIG, OmegaConf.to_yaml(OmegaConf.create(self.settings.model_dump())))
        options = {**self.settings.options(), "experiment_id": self.experiment_id}
        tables.write(self.path / schema.OPTIONS, tables.serialised_options(options))
        (self.path / schema.TRACEBACK).unlink(missing_ok=True)

    def note_environment(self, origin: provenance.Origin, log: logging.Logger) -> None:
        """Add this attempt's code and machine to environment.json; the log tells of code that has changed."""
        path = self.path / schema.ENVIRONMENT
        try:
            attempts = list(json.loads(path.read_text())["attempts"])
            before = provenance.commits(attempts[-1]["code"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            attempts, before = [], ""
        now = provenance.commits(origin.code)
        if before and before != now:
            log.warning("continues with other code: commit %s before, %s now", before, now)
        attempts.append(
            {
                "started": self._status.get("started"),
                "sweep": origin.sweep,
                "command": origin.command,
                "code": origin.code,
                "machine": provenance.machine(),
            }
        )
        write_text(path, json.dumps({"attempts": attempts}, indent=1))

    def add_metrics(self, clock: dict[str, float], values: Sequence[tuple[str, int, float]]) -> None:
        """Append one evaluation: (metric, replicate, value) at the clock's step, epoch, ... and store all."""
        rows = [
            {
                "experiment_id": self.experiment_id,
                **clock,
                "metric": metric,
                "replicate": replicate,
                "value": value,
            }
            for metric, replicate, value in values
        ]
        self.tables.append(schema.METRICS, pa.Table.from_pylist(rows, schema=schema.METRICS_SCHEMA))

    def add_gradients(self, profiles: Mapping[str, np.ndarray], step: int, epoch: float) -> None:
        """Append the lag profiles of one evaluation (see `probe_metrics.lag_profiles`) and store all, NaN as null."""
        self.tables.append(schema.GRADIENTS, self._rows(schema.GRADIENTS, profiles, step, epoch))

    def add_positions(self, profiles: Mapping[str, np.ndarray], step: int, epoch: float) -> None:
        """The same of the lag profiles by loss position (see `probe_metrics.position_profiles`)."""
        self.tables.append(schema.POSITIONS, self._rows(schema.POSITIONS, profiles, step, epoch))

    def replace_predictions(self, predictions: Mapping[str, np.ndarray], step: int, epoch: float) -> None:
        """Store predictions (see `evaluation.predict`) in the place of those before; nothing where there are none."""
        if predictions:
            self.tables.replace(schema.PREDICTIONS, self._rows(schema.PREDICTIONS, predictions, step, epoch))

    def _rows(self, name: str, columns: Mapping[str, np.ndarray], step: int, epoch: float) -> pa.Table:
        """Columns of an evaluation as rows of a table, NaN as null."""
        rows = len(next(iter(columns.values())))
        clock = {"step": np.full(rows, step), "epoch": np.full(rows, epoch)}
        whole = {"experiment_id": [self.experiment_id] * rows, **clock, **columns}
        fields = tables.SCHEMAS[name]
        arrays = [pa.array(whole[field.name], type=field.type, from_pandas=True) for field in fields]
        return pa.table(arrays, schema=fields)

    def set_status(self, state: str, **details: Any) -> None:
        """Replace status.json: what stands there stays unless given anew; the heartbeat is now."""
        self._status |= {
            "experiment_id": self.experiment_id,
            "state": state,
            "epochs": self.settings.epochs,
            "seconds": self.settings.seconds,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "heartbeat": time.time(),
            "elapsed": time.monotonic() - self._began,
            **details,
        }
        write_text(self.path / schema.STATUS, json.dumps(self._status, indent=1))

    def finish(self, **details: Any) -> None:
        """Say finished, and note what the files hold that others read."""
        self.set_status(schema.FINISHED, files=self._digests(), **details)

    def fail(self, error: BaseException) -> None:
        """Store the traceback and say failed; metrics and checkpoint stay as they are."""
        self._end(schema.FAILED, described(error), "".join(traceback.format_exception(error)))

    def stop(self, signal_name: str) -> None:
        """Say interrupted, by this signal."""
        self._end(schema.INTERRUPTED, signal_name, None)

    def bury(self, reason: str, output: str) -> None:
        """Say failed for a process that ended without saying why itself, unless another one has taken the run up.

        Arguments:
            reason: how it ended.
            output: the last that it printed.
        """
        with contextlib.suppress(BusyError, OSError), self.lock():  # a disk may take nothing any more
            self._status = self.status()
            if self._status.get("state") not in (schema.FINISHED, schema.FAILED, schema.INTERRUPTED):
                its = {name: self._status[name] for name in ITS_OWN if name in self._status}
                self._end(schema.FAILED, reason, f"{reason}\n\nthe last that it printed:\n{output}\n", **its)

    def _end(self, state: str, error: str, trace: str | None, **details: Any) -> None:
        with contextlib.suppress(StorageError):  # where nothing can be stored, whoever started the run tells
            if trace is not None:
                write_text(self.path / schema.TRACEBACK, trace)
            self.set_status(state, error=error, **details)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, which holds the tables too; the one before it is kept."""
        checkpoints.save(self.path, {**state, "tables": self.tables.content()})

    def load_checkpoint(self, log: logging.Logger) -> dict[str, Any] | None:
        """The last checkpoint that can be read, its tables taken up, or None (see `checkpoints.load`)."""
        state = checkpoints.load(self.path, log)
        if state is not None:
            self.tables.restore(state["tables"], log)
        return state

    @contextmanager
    def logging(self) -> Iterator[logging.Logger]:
        """A logger that appends to the run's log and to nothing else."""
        logger = logging.getLogger(f"atbptt.run.{self.experiment_id}")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        handler = _LogFile(self.path / schema.LOG)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
        try:
            yield logger
        finally:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()


def read_status(path: Path) -> dict[str, Any]:
    """The status.json of a run directory, empty if there is none that can be read, without what should be a number."""
    try:
        status = json.loads((path / schema.STATUS).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(status, dict):
        return {}
    return {name: value for name, value in status.items() if name not in NUMBERS or number(status, name) is not None}


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short, without a traceback for every line; the next file to store tells why."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
