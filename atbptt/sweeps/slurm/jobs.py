"""Which job of Slurm has which run of a sweep: slurm.json in the sweep's folder."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atbptt.config import NOTED
from atbptt.runs import read_plan, schema
from atbptt.sweeps.slurm.queue import OVER, QueuedJob
from atbptt.system import locks, read_file, read_json, write_text

NAME = "slurm.json"


@dataclass(frozen=True)
class SlurmJob:
    """A job of Slurm."""

    number: str  # its id: `12`, or `12_3` in an array
    stdout: Path  # without the run's own output
    stderr: Path
    state: str | None = None  # as Slurm last listed it, once it is over

    def complaint(self, *folders: Path) -> str:
        """The last line of its stderr with "error", or the last; empty if there is none in one of these folders."""
        try:
            text = read_file(self.stderr).decode(errors="replace") if _within(self.stderr, folders) else ""
        except (OSError, ValueError):
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")


def _within(path: Path | None, folders: Iterable[Path]) -> bool:
    """Whether a path, which somebody else may have stored, leads into one of the folders, by links too."""
    return path is not None and any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def read_jobs(sweep: Path) -> dict[str, SlurmJob]:
    """The jobs of a sweep by experiment id; none if they cannot be read."""
    try:
        stored = read_json(sweep / NAME)
        return {
            experiment_id: SlurmJob(_number(job["job"]), sweep / job["stdout"], sweep / job["stderr"], job["state"])
            for experiment_id, job in stored.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def _number(text: str) -> str:
    """The id of a job, from a file (TypeError, ValueError)."""
    if re.fullmatch(r"[0-9]+(_[0-9]+)?", text) is None:
        raise ValueError(f"no job of Slurm has the id {text}")
    return text


def write_jobs(sweep: Path, jobs: Mapping[str, SlurmJob]) -> None:
    """Replace the record of a sweep's jobs, by experiment id (StorageError)."""
    stored = {
        experiment_id: {
            "job": job.number,
            "stdout": os.path.relpath(job.stdout, sweep),  # the output folder may be moved
            "stderr": os.path.relpath(job.stderr, sweep),
            "state": job.state,
        }
        for experiment_id, job in jobs.items()
    }
    write_text(sweep / NAME, json.dumps(stored, indent=1))


def still_queued(
    sweep: Path, settings: Mapping[str, Any], queue: Mapping[str, QueuedJob], scripts: Path
) -> tuple[dict[str, SlurmJob], set[str]]:
    """Find jobs of earlier sweeps in the queue that have the runs, by experiment id, with these settings.

    Somebody else may have written the record of a sweep: by Slurm's word, what a job runs is in that sweep's folder,
    or in `scripts`, the folder of this one. Also returns the ids of those for which another launching process waits.
    """
    jobs: dict[str, SlurmJob] = {}
    foreign: set[str] = set()
    for folder in sorted(record.parent for record in sweep.parent.glob(f"*/{NAME}")):
        stored = read_jobs(folder) if folder != sweep else {}
        listed = {i: job for i, job in stored.items() if i in settings and not queue.get(job.number, OVER).final}
        try:
            if listed and locks.is_held(folder / schema.LOCK):
                foreign.update(job.number for job in listed.values())
            own = {i: job for i, job in listed.items() if _within(queue[job.number].script, (folder, scripts))}
            planned = {run["experiment_id"]: run["settings"] for run in read_plan(folder)["jobs"]} if own else {}
            same = {i: job for i, job in own.items() if _decisive(planned.get(i, {})) == _decisive(settings[i])}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        jobs.update(same)
    return jobs, foreign & {job.number for job in jobs.values()}


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in NOTED}
