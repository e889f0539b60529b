"""A run's directory: options, metrics, lag profiles, status, log, checkpoint.

`outputs/<experiment>/<experiment_id>/`. Every file but the log is replaced atomically, so that what a reader
or a crash finds is whole. The checkpoint is written after the metrics and decides how far the run got: rows
beyond it are dropped when the run continues.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf

from atbptt import schema
from atbptt.config import Settings
from atbptt.files import write_atomically, write_text


class BusyError(RuntimeError):
    """Another process works on the run."""


class RunDirectory:
    """The files of one run.

    Arguments:
        settings: the run's config; `output_dir`, `name` and the experiment id make the path.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.experiment_id = settings.experiment_id
        self.path = Path(settings.output_dir) / settings.name / self.experiment_id
        self._metrics: list[pa.Table] = []
        self._gradients: list[pa.Table] = []
        self._status: dict[str, Any] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the directory and hold it; the operating system frees the lock of a process that ended.

        Raises:
            BusyError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / schema.LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BusyError(f"{self.path} is being run by another process") from error
            yield

    def busy(self) -> bool:
        """Whether a process holds the run."""
        if not self.path.exists():
            return False
        try:
            with self.lock():
                return False
        except BusyError:
            return True

    def status(self) -> dict[str, Any]:
        """What status.json says, empty if there is none."""
        return read_status(self.path)

    def finished(self, status: Mapping[str, Any] | None = None) -> bool:
        """Whether the run has reached the budget that the settings ask for, by its status (read if left out)."""
        status = self.status() if status is None else status
        return status.get("state") == schema.FINISHED and self.settings.budget_spent(
            status.get("epoch", 0), status.get("train_seconds", 0)
        )

    def begin(self) -> None:
        """Say running, clear what a killed process left half written, store the config and the options."""
        self.set_status(schema.RUNNING, error=None)
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        write_text(self.path / schema.CONFIG, OmegaConf.to_yaml(OmegaConf.create(self.settings.model_dump())))
        _write_table(self.path / schema.OPTIONS, pa.Table.from_pylist([self.settings.options()]))
        (self.path / schema.TRACEBACK).unlink(missing_ok=True)

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of metrics and of lag profiles stored so far, which a checkpoint notes."""
        metrics, gradients = (sum(map(len, tables)) for tables in (self._metrics, self._gradients))
        return metrics, gradients

    def restore(self, rows: tuple[int, int]) -> None:
        """Take up the stored metrics and lag profiles that a checkpoint had noted; what came later is dropped."""
        for kept, name, columns, count in (
            (self._metrics, schema.METRICS, schema.METRICS_SCHEMA, rows[0]),
            (self._gradients, schema.GRADIENTS, schema.GRADIENTS_SCHEMA, rows[1]),
        ):
            kept[:] = [pq.ParquetFile(self.path / name).read().cast(columns).slice(0, count)] if count else []

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
        self._metrics.append(pa.Table.from_pylist(rows, schema=schema.METRICS_SCHEMA))
        _write_table(self.path / schema.METRICS, pa.concat_tables(self._metrics))

    def add_gradients(self, profiles: Mapping[str, np.ndarray], step: int, epoch: float) -> None:
        """Append the lag profiles of one evaluation (see `probes.lag_profiles`) and store all, NaN as null."""
        rows = len(profiles["lag"])
        columns = {
            "experiment_id": [self.experiment_id] * rows,
            "step": np.full(rows, step),
            "epoch": np.full(rows, epoch),
            **profiles,
        }
        fields = schema.GRADIENTS_SCHEMA
        arrays = [pa.array(columns[field.name], type=field.type, from_pandas=True) for field in fields]
        self._gradients.append(pa.table(arrays, schema=fields))
        _write_table(self.path / schema.GRADIENTS, pa.concat_tables(self._gradients))

    def set_status(self, state: str, **details: Any) -> None:
        """Replace status.json: what stands there stays unless given anew; the heartbeat is now."""
        self._status.update(
            experiment_id=self.experiment_id,
            state=state,
            epochs=self.settings.epochs,
            host=socket.gethostname(),
            pid=os.getpid(),
            heartbeat=time.time(),
            **details,
        )
        write_text(self.path / schema.STATUS, json.dumps(self._status, indent=1))

    def fail(self, error: BaseException) -> None:
        """Store the traceback and say failed; metrics and checkpoint stay as they are."""
        write_text(self.path / schema.TRACEBACK, "".join(traceback.format_exception(error)))
        interrupted = isinstance(error, KeyboardInterrupt)
        self.set_status(schema.FAILED, error="interrupted" if interrupted else f"{type(error).__name__}: {error}")

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint."""
        write_atomically(self.path / schema.CHECKPOINT, lambda file: torch.save(state, file))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, on the CPU, or None. It may hold a user's own objects: load only what you trust."""
        path = self.path / schema.CHECKPOINT
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
        return state

    @contextmanager
    def logging(self) -> Iterator[logging.Logger]:
        """A logger that appends to the run's log and to nothing else."""
        logger = logging.getLogger(f"atbptt.run.{self.experiment_id}")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        handler = logging.FileHandler(self.path / schema.LOG)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
        try:
            yield logger
        finally:
            logger.removeHandler(handler)
            handler.close()


def read_status(path: Path) -> dict[str, Any]:
    """The status.json of a run directory, empty if there is none that can be read."""
    try:
        status = json.loads((path / schema.STATUS).read_text())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def _write_table(path: Path, table: pa.Table) -> None:
    write_atomically(path, lambda file: pq.write_table(table, file, compression="zstd"))
