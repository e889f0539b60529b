"""A run's directory `outputs/<experiment>/<experiment_id>/`: options, tables, status, log, checkpoint.

Every file but the log is replaced atomically, so that a reader or a crash finds it whole. The checkpoint is written
after the tables and contains them too. When the run continues, rows later than the checkpoint are dropped and damaged
tables are restored from it.
"""

import contextlib
import json
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from atbptt.config import NOTED, Settings
from atbptt.errors import ConfigError, ShownError, described
from atbptt.runs import checkpoints, provenance, schema, tables
from atbptt.runs.status import ENDED, read_status, reason
from atbptt.system import (
    StorageError,
    locks,
    move_folder,
    numbered,
    open_to_append,
    read_json,
    read_yaml,
    replacing,
    write_text,
)

RESULTS = (schema.CONFIG, schema.OPTIONS, *schema.SCHEMAS)  # files of a finished run that must not change


class BusyError(ShownError, RuntimeError):
    """Another process works on the run."""


class RunDirectory:
    """The files of one run, below the `output_dir` of its settings.

    `experiment_id` is as the sweep planned it, even if data or code are others now; None takes that of the settings.
    """

    def __init__(self, settings: Settings, experiment_id: str | None = None) -> None:
        self.settings = settings
        self.experiment_id = experiment_id or settings.experiment_id
        self.path = Path(settings.output_dir) / settings.name / self.experiment_id
        self.tables = tables.Tables(self.path, self.experiment_id)
        self._status: dict[str, Any] = {}
        self._options: dict[str, Any] = {}  # of this attempt
        self._began = time.monotonic()

    @property
    def old(self) -> Path:
        """The folder of runs that were set aside."""
        return self.path.parent / schema.OLD

    def make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be made: {error.strerror}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the directory and hold its lock (StorageError); a BusyError if another process holds it."""
        self.make()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locks.hold(self.path / schema.LOCK))
            except locks.LockedError as error:
                raise BusyError(f"{self.path} is being run by another process") from error
            except OSError as error:
                raise StorageError(f"{self.path / schema.LOCK} cannot be locked: {error.strerror}") from error
            yield

    def busy(self) -> bool:
        """Whether a process works on the run."""
        return locks.is_held(self.path / schema.LOCK)

    def status(self) -> dict[str, Any]:
        """The entries of status.json, see `read_status`."""
        return read_status(self.path)

    def finished(self) -> bool:
        """Whether the run has reached the budget of the settings, and its results have not changed since."""
        status = self.status()
        if status.get(schema.ID, self.experiment_id) != self.experiment_id:
            return False  # the directory of another run has been copied here
        reached = (status.get(name, 0) for name in ("epoch", "train_seconds", "waited"))
        spent = status.get("state") == schema.FINISHED and self.settings.budget_spent(*reached)
        return spent and status.get("files") == self._digests()

    def begun(self) -> bool:
        """Whether an attempt has stored anything."""
        return self.path.exists() and bool({path.name for path in self.path.iterdir()} - {schema.LOCK, schema.OUTPUT})

    def begun_anew(self, sweep: str | None) -> bool:
        """Whether this sweep with rerun=true, or a later one, has begun the run anew."""
        return sweep is not None and str(self.status().get("rerun") or "") >= sweep

    def set_aside(self, sweep: str | None) -> None:
        """Move a run to `.old/<id>.<now>` beside it, unless `begun_anew`; what this process prints stays with the run.

        Raises BusyError if another process works on the run, StorageError.
        """
        with self.lock():
            if self.begun_anew(sweep) or not self.begun():
                return
            stamp = f"{self.experiment_id}.{time.strftime('%Y-%m-%d_%H-%M-%S')}"
            target = next(old for name in numbered(stamp) if not (old := self.old / name).exists())
            move_folder(self.path, target)
        self.make()
        _follow_output(target / schema.OUTPUT, self.path / schema.OUTPUT)

    def _digests(self) -> dict[str, int | None]:
        return {name: tables.digest(self.path / name) for name in RESULTS}

    def begin(self, origin: provenance.Origin) -> None:
        """Begin an attempt: set the status, delete files half written by a killed process, store config and code.

        A ConfigError if data or code have changed since the run was planned.
        """
        self._status = self.status()
        self._began = time.monotonic()
        self.set_status(
            schema.RUNNING,
            error=None,
            sweep=origin.sweep,
            attempt=int(self._status.get("attempt", 0)) + 1,
            started=time.time(),
            first_epoch=self._status.get("epoch", 0.0),
            **({"rerun": origin.sweep} if origin.rerun and not self.begun_anew(origin.sweep) else {}),
        )
        for leftover in (*self.path.glob(".*.tmp"), self.path / schema.TRACEBACK):
            leftover.unlink(missing_ok=True)
        self.check_unchanged(origin.hashes)
        noted = _noted(self.settings, tables.read_options(self.path / schema.OPTIONS))
        write_text(self.path / schema.CONFIG, OmegaConf.to_yaml(OmegaConf.create(noted.model_dump())))
        self._options = {**noted.options(), schema.ID: self.experiment_id}
        self._write_options(self._options)
        self._write_sources()

    def note(self) -> bool:
        """Store the notes and tags that the settings name with a run that has finished; whether it had others.

        Raises BusyError if another process works on the run, StorageError.
        """
        given = {name: value for name in NOTED if (value := getattr(self.settings, name)) is not None}
        if not given:
            return False
        with self.lock():
            stored = tables.read_options(self.path / schema.OPTIONS)
            options = {name: value for name, value in stored.items() if name not in NOTED}
            options |= _noted(self.settings, stored).noted()
            if options == stored or not self.finished():  # another process may have extended it meanwhile
                return False
            try:
                _, config = read_yaml(self.path / schema.CONFIG)
                status = read_json(self.path / schema.STATUS)
            except (OSError, ValueError) as error:
                raise StorageError(f"{self.path / schema.CONFIG} cannot be read: {reason(error)}") from error
            write_text(self.path / schema.CONFIG, OmegaConf.to_yaml(OmegaConf.create({**config, **given})))
            self._write_options(options)
            # A kill before this leaves a run that is not skipped: its process finds nothing to train.
            write_text(self.path / schema.STATUS, json.dumps({**status, "files": self._digests()}, indent=1))
        return True

    def _write_options(self, options: Mapping[str, Any]) -> None:
        tables.write(self.path / schema.OPTIONS, tables.serialised_options(options))

    def check_unchanged(self, planned: Mapping[str, str]) -> None:
        """Raise a ConfigError if data or code are others than when the run was planned."""
        now = self.settings.experiment_id
        if self.experiment_id == now:
            return
        for name, rule in self.settings.changes(planned).items() if planned else ():
            raise ConfigError(name, f"{rule} than when the sweep began: launch it anew")
        raise ConfigError(schema.ID, f"(={self.experiment_id}) is {now} with the present data and code: launch it anew")

    def _write_sources(self) -> None:
        folder = self.path / schema.SOURCE
        if folder.is_symlink():  # what it leads to is not the run's
            folder.unlink()
        files = {folder / name: content for name, content in self.settings.sources().items()}
        for path in [*folder.rglob("*")]:
            # A link leads elsewhere; another file is of an attempt with the same code in other files.
            if path.is_symlink() or (path.is_file() and path not in files):
                path.unlink()
        for path, content in files.items():
            with replacing(path) as temporary:
                temporary.write_bytes(content)

    def note_environment(self, origin: provenance.Origin, log: logging.Logger) -> None:
        """Add this attempt's code, YAML files of --config-dir and machine to environment.json; log the files.

        Logs a warning if the code has changed.
        """
        path = self.path / schema.ENVIRONMENT
        try:
            attempts = list(read_json(path)["attempts"])
            before = provenance.commits(attempts[-1]["code"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            attempts, before = [], ""
        now = provenance.commits(origin.code)
        if before and before != now:
            log.warning("continues with other code: commit %s before, %s now", before, now)
        for file in origin.config_files:
            log.info("%s", file)
        files = [asdict(file) for file in origin.config_files]
        provenance.store_diffs(origin.code, self.path, origin.diffs)
        whence = {"sweep": origin.sweep, "command": origin.command, "code": origin.code, "config_files": files}
        attempts.append({"started": self._status.get("started"), **whence, "machine": provenance.machine()})
        write_text(path, json.dumps({"attempts": attempts}, indent=1))

    def set_status(self, state: str, **details: Any) -> None:
        """Update status.json: entries that are not given keep their values; the heartbeat is now."""
        self._status |= {
            "experiment_id": self.experiment_id,
            "state": state,
            "epochs": self.settings.epochs,
            "seconds": self.settings.seconds,
            "patience": self.settings.patience,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "heartbeat": time.time(),
            "elapsed": time.monotonic() - self._began,
            **details,
        }
        write_text(self.path / schema.STATUS, json.dumps(self._status, indent=1))

    def finish(self, ended_by: str | None = None, **details: Any) -> None:
        """Set the status to finished, with digests of the results; the options say by what, unless by its budget."""
        if ended_by is not None:
            self._write_options({**self._options, schema.ENDED_BY: ended_by})
        self.set_status(schema.FINISHED, files=self._digests(), **details)

    def fail(self, error: BaseException) -> None:
        """Set the status to failed, and store the traceback."""
        self._end(schema.FAILED, described(error), "".join(traceback.format_exception(error)))

    def stop(self, signal_name: str) -> None:
        self._end(schema.INTERRUPTED, signal_name, None)

    def bury(self, reason: str, output: str = "", *, sweep: str | None, started: float | None) -> None:
        """Set the status to failed for a try of a sweep that ended after this output without saying how.

        Unless another process works on the run, it has finished or been deleted, or has said how it ended since the
        try began, when its status had this `started`.
        """
        with contextlib.suppress(BusyError, OSError), contextlib.ExitStack() as held:  # the disk may be full
            if not self.path.is_dir():
                return
            try:
                held.enter_context(self.lock())
            except StorageError:  # something else is in its place
                if self.busy():
                    return
            self._status = self.status()
            state, begun = self._status.get("state"), self._status.get("started") != started
            if state == schema.FINISHED or (begun and state in ENDED):
                return
            of_process = ("host", "pid", "heartbeat") if self._status.get("sweep") == sweep else ()
            kept = {name: self._status[name] for name in ("elapsed", *of_process) if name in self._status}
            printed = f"\nthe last that it printed:\n{output}\n" if output else ""
            self._end(schema.FAILED, reason, f"{reason}\n{printed}", sweep=sweep, **kept)

    def _end(self, state: str, error: str, trace: str | None, **details: Any) -> None:
        # The launching process reports what cannot be stored.
        with contextlib.suppress(StorageError):
            self.set_status(state, error=error, **details)
        if trace is not None:
            with contextlib.suppress(StorageError):
                write_text(self.path / schema.TRACEBACK, trace)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        checkpoints.save(self.path, {schema.ID: self.experiment_id, **state, "tables": self.tables.content})
        (self.path / schema.PREVIOUS_BEST).unlink(missing_ok=True)

    def save_best(self, state: dict[str, Any]) -> None:
        """Store the model at its best evaluation, `best` of the state; it is what a later checkpoint goes on from."""
        checkpoints.save(self.path, {schema.ID: self.experiment_id, **state}, schema.BEST, schema.PREVIOUS_BEST)

    def load_checkpoint(self, log: logging.Logger) -> dict[str, Any] | None:
        """The last checkpoint that can be read, or None; tables are restored from it."""
        state = checkpoints.load(self.path, self.experiment_id, log)
        if state is not None:
            self.tables.restore(state["tables"], log)
            checkpoints.keep_best(self.path, self.experiment_id, state.get("best"), log)
        return state

    @contextmanager
    def logging(self) -> Iterator[logging.Logger]:
        logger = logging.getLogger(f"atbptt.run.{self.experiment_id}")
        logger.disabled = False  # as a logging configuration of someone else may have left it, Hydra's too
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


def _follow_output(old: Path, new: Path) -> None:
    """Have what this process prints to one file go to another from now on."""
    with contextlib.suppress(OSError):  # there is no such file
        own = [stream for stream in (1, 2) if os.path.samestat(os.fstat(stream), old.stat())]
        if own:
            descriptor = open_to_append(new)
            for stream in own:
                os.dup2(descriptor, stream)
            os.close(descriptor)


def _noted(settings: Settings, stored: Mapping[str, Any]) -> Settings:
    """The settings, with the notes and tags of stored options where they name none."""
    texts = {name: text for name in NOTED if isinstance(text := stored.get(name), str)}  # others are nobody's notes
    before = {"notes": texts.get("notes"), "tags": texts["tags"].split(", ") if texts.get("tags") else None}
    return settings.model_copy(update={n: old for n, old in before.items() if getattr(settings, n) is None})


class _LogFile(logging.FileHandler):
    """A log that ignores a full disk; the next file to be written reports it."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(os.fdopen(open_to_append(Path(self.baseFilename)), "ab"), encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
