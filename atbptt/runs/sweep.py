"""A sweep's folder: its plan, which its jobs run by, wherever and whenever they start.

`<output_dir>/.sweeps/<when>_<pid>/`. Hydra composes a job's config anew when the job starts; what was checked is what
must run, however the YAML files have changed since.
"""

from __future__ import annotations

import functools
import itertools
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

from atbptt.config import Settings, validated
from atbptt.runs import schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.provenance import Origin, code
from atbptt.system import StorageError, locks, write_text

PLAN_VARIABLE = "ATBPTT_PLAN"  # where the jobs of a sweep find its plan
MULTIRUN = "multirun.yaml"  # the composed config, Hydra's part included


@dataclass(frozen=True)
class Job:
    """One run of a command line.

    Attributes:
        label: the overrides that tell it from the others, as typed.
        overrides: all of them.
        settings: its checked config.
        directory: where it stores what it finds.
    """

    label: str
    overrides: list[str]
    settings: Settings
    directory: RunDirectory


@dataclass(frozen=True)
class SweepDirectory:
    """The folder of one sweep.

    Attributes:
        path: absolute; its name is the sweep's.
    """

    path: Path

    @classmethod
    def make(cls, first: Job) -> SweepDirectory:
        """A new one in the output folder of the sweep's first job (StorageError)."""
        folder = Path(first.settings.output_dir).absolute() / schema.SWEEPS
        stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
        for name in itertools.chain([stamp], (f"{stamp}_{number}" for number in itertools.count(2))):
            try:
                (folder / name).mkdir(parents=True)
            except FileExistsError:  # a process of the same number on another machine, or a clock that was put back
                if not (folder / name).is_dir():
                    raise StorageError(f"{folder} cannot be made: a file is in the way") from None
            except OSError as error:
                raise StorageError(f"{folder / name} cannot be made: {error.strerror}") from error
            else:
                return cls(folder / name)
        raise AssertionError

    @contextmanager
    def recorded(self, jobs: Sequence[Job], launched: Sequence[Job], config: str) -> Iterator[None]:
        """Store the plan; within, processes that this one starts find their jobs in it (see `planned`).

        Arguments:
            jobs: all of the command line.
            launched: those that have work left: a launcher numbers these.
            config: the composed config of the sweep, as YAML.

        Raises:
            StorageError: the folder cannot be written.
        """
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
        write_text(self.path / schema.PLAN, json.dumps(record, indent=1))
        write_text(self.path / MULTIRUN, config)
        os.environ[PLAN_VARIABLE] = str(self.path / schema.PLAN)
        try:
            with locks.hold(self.path / schema.LOCK):
                yield
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
        entry = plan["jobs"][plan["launched"][number]]
        settings = entry["settings"]
        origin = Origin(path.parent.name, plan["code"], plan["command"], entry["experiment_id"])
    except (KeyError, IndexError, TypeError, OSError, ValueError):
        return None
    return validated(settings), origin


@functools.lru_cache(maxsize=1)
def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
