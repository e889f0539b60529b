"""A sweep's folder, `<output_dir>/.sweeps/<when>_<pid>/`, with the plan that its jobs run by.

Hydra composes the config of a job again when the job starts. The plan holds the configs that were checked, so edits of
YAML files during a sweep do not reach its jobs.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from atbptt.config import ConfigFile, Settings, hydra_of, validated
from atbptt.errors import ConfigError
from atbptt.runs import schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.provenance import Origin, code, store_diffs
from atbptt.system import StorageError, locks, made_folder, numbered, read_json, write_text


@dataclass(frozen=True)
class Job:
    """One run of a command line."""

    label: str  # the overrides that tell it from the others, as typed
    overrides: list[str]
    settings: Settings
    directory: RunDirectory
    files: list[ConfigFile] = field(default_factory=list)  # of --config-dir
    hydra: dict[str, Any] = field(default_factory=dict)  # Hydra's part of the config of jobs with its choices

    def hydra_part(self, number: int) -> dict[str, Any]:
        """Hydra's part of its config, if its number among those launched is this."""
        return hydra_of(self.hydra, self.overrides, number, self.directory.path)


@contextlib.contextmanager
def made_sweep(output_dir: str) -> Iterator[Path]:
    """Make the folder of a new sweep (StorageError), whose absolute path is yielded; at the end it goes if empty.

    So do folders above it that were missing.
    """
    folder = Path(output_dir).absolute() / schema.SWEEPS
    with made_folder(folder):
        sweep = _make_sweep(folder)
        try:
            yield sweep
        finally:
            for path in (sweep, folder):
                with contextlib.suppress(OSError):
                    path.rmdir()


def _make_sweep(folder: Path) -> Path:
    names = numbered(f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}")
    try:
        while True:
            sweep = folder / next(names)
            with contextlib.suppress(FileExistsError):  # of a process with this number on another machine
                sweep.mkdir(parents=True)  # an ending command may have deleted the folder, empty
                return sweep
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror}") from error


@contextlib.contextmanager
def recorded(
    sweep: Path, jobs: Sequence[Job], launched: Sequence[Job], config: str, rerun: bool = False
) -> Iterator[None]:
    """Store the plan and the `config` of a sweep and hold its lock.

    Jobs are found by their number among those `launched` (`planned`), which begin anew if `rerun`. What is stored goes
    with a ConfigError of a launcher that has begun no run. Raises StorageError.
    """
    numbers = {id(job): number for number, job in enumerate(jobs)}
    plan = {
        "command": sys.argv,
        "directory": os.getcwd(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.time(),
        "code": (whence := code()),
        "rerun": rerun,
        "launched": [numbers[id(job)] for job in launched],
        "hydra": _shared_once([job.hydra_part(number) for number, job in enumerate(launched)]),
        "jobs": [
            {
                "label": job.label,
                "overrides": job.overrides,
                "experiment_id": job.directory.experiment_id,
                "hashes": job.settings.hashes(),
                "path": os.path.relpath(job.directory.path.absolute(), sweep),  # the output folder may be moved
                "settings": job.settings.model_dump(),
                "config_files": [asdict(file) for file in job.files],
            }
            for job in jobs
        ],
    }
    write_text(sweep / schema.PLAN, json.dumps(plan, indent=1))
    write_text(sweep / "multirun.yaml", config)  # with Hydra's part
    store_diffs(whence, sweep)
    try:
        with locks.hold(sweep / schema.LOCK):
            yield
    except ConfigError:  # as of a cluster that refuses all jobs
        if all(job.directory.status().get("sweep") != sweep.name for job in launched):
            shutil.rmtree(sweep, ignore_errors=True)
        raise


def _shared_once(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What parts of Hydra's config have in common, and the rest of each: a tenth."""
    shared = {key: value for key, value in (parts[0] if parts else {}).items() if all(p[key] == value for p in parts)}
    return {"shared": shared, "own": [{k: value for k, value in part.items() if k not in shared} for part in parts]}


def read_plan(sweep: Path) -> dict[str, Any]:
    """The plan in a sweep's folder (OSError, ValueError)."""
    return dict(read_json(sweep / schema.PLAN))


_read_plan_once = functools.lru_cache(maxsize=1)(read_plan)


def planned(sweep: Path, number: int) -> tuple[Settings, Origin, dict[str, Any]] | None:
    """Settings, origin and Hydra's part of the config of a launched job by its number.

    None if the plan cannot be read.
    """
    try:
        plan = _read_plan_once(sweep)
        entry = plan["jobs"][plan["launched"][number]]
        settings = entry["settings"]
        part = {**plan["hydra"]["shared"], **plan["hydra"]["own"][number]}
        files = [ConfigFile(**file) for file in entry["config_files"]]
        whence = plan["code"], plan["command"], entry["experiment_id"], entry["hashes"], files
        origin = Origin(sweep.name, *whence, sweep, plan["rerun"])
    except (KeyError, IndexError, TypeError, OSError, ValueError):
        return None
    return validated(settings), origin, part
