"""A sweep's folder: its plan, which its jobs run by, wherever and whenever they start.

`<output_dir>/.sweeps/<when>_<pid>/`. Hydra composes a job's config anew when the job starts; what was checked is what
must run, however the YAML files have changed since.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atbptt import locks, schema
from atbptt.config import Settings, validated
from atbptt.files import StorageError, write_text
from atbptt.planning import Job
from atbptt.provenance import Origin, code

PLAN_VARIABLE = "ATBPTT_PLAN"  # where the jobs of a sweep find its plan
MULTIRUN = "multirun.yaml"  # the composed config, Hydra's part included


@dataclass(frozen=True)
class SweepDirectory:
    """The folder of one sweep.

    Attributes:
        path: absolute; its name is the sweep's.
    """

    path: Path

    @classmethod
    def beside(cls, job: Job) -> SweepDirectory:
        """A new one for a sweep whose first job this is; nothing is made yet."""
        stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
        return cls(Path(job.settings.output_dir).absolute() / schema.SWEEPS / stamp)

    @contextmanager
    def recorded(self, jobs: Sequence[Job], launched: Sequence[Job], config: str) -> Iterator[Origin]:
        """Store the plan; within, processes that this one starts find their jobs in it (see `planned`).

        Arguments:
            jobs: all of the command line.
            launched: those that have work left: a launcher numbers these.
            config: the composed config of the sweep, as YAML.

        Raises:
            StorageError: the folder cannot be written.
        """
        origin = Origin(self.path.name)
        numbers = {id(job): number for number, job in enumerate(jobs)}
        record = {
            "command": sys.argv,
            "directory": os.getcwd(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "code": code(),
            "launched": [numbers[id(job)] for job in launched],
            "jobs": [self._entry(job) for job in jobs],
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be made: {error.strerror}") from error
        write_text(self.path / schema.PLAN, json.dumps(record, indent=1))
        write_text(self.path / MULTIRUN, config)
        os.environ[PLAN_VARIABLE] = str(self.path / schema.PLAN)
        try:
            with locks.hold(self.path / schema.LOCK):
                yield origin
        finally:
            del os.environ[PLAN_VARIABLE]

    def _entry(self, job: Job) -> dict[str, object]:
        return {
            "label": job.label,
            "overrides": job.overrides,
            "experiment_id": job.directory.experiment_id,
            "path": os.path.relpath(job.directory.path.absolute(), self.path),  # the output folder may be moved
            "settings": job.settings.model_dump(),
        }


def planned(number: int) -> tuple[Settings, Origin] | None:
    """The settings and origin of a launched job by its number, or None where no plan can be read."""
    try:
        path = Path(os.environ[PLAN_VARIABLE])
        plan = _read(path)
        settings = plan["jobs"][plan["launched"][number]]["settings"]
        origin = Origin(path.parent.name, plan["code"], plan["command"])
    except (KeyError, IndexError, TypeError, OSError, ValueError):
        return None
    return validated(settings), origin


@functools.lru_cache(maxsize=1)
def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
