"""Which job of Slurm has which run of a sweep: slurm.json in the sweep's folder."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atbptt.config import NOTED
from atbptt.runs import read_plan, schema
from atbptt.sweeps.slurm.queue import OVER, QueuedJob
from atbptt.system import locks, read_json, write_text

NAME = "slurm.json"


@dataclass(frozen=True)
class SlurmJob:
    """A job of Slurm."""

    number: str  # its id: `12`, or `12_3` in an array
    stdout: Path  # without the run's own output
    stderr: Path
    state: str | None = None  # as Slurm last listed it, once it is over

    def complaint(self) -> str:
        """The last line of its stderr with "error", or the last; empty if there is none."""
        try:
            lines = [line.strip() for line in self.stderr.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")


def read_jobs(sweep: Path) -> dict[str, SlurmJob]:
    """The jobs of a sweep by experiment id; none if they cannot be read."""
    try:
        stored = read_json(sweep / NAME)
        return {
            experiment_id: SlurmJob(job["job"], sweep / job["stdout"], sweep / job["stderr"], job["state"])
            for experiment_id, job in stored.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


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
    sweep: Path, settings: Mapping[str, Any], queue: Mapping[str, QueuedJob]
) -> tuple[dict[str, SlurmJob], set[str]]:
    """Find jobs of earlier sweeps in the queue that have the runs, by experiment id, with these settings.

    Also returns the ids of those for which another launching process waits.
    """
    jobs: dict[str, SlurmJob] = {}
    foreign: set[str] = set()
    for folder in sorted(record.parent for record in sweep.parent.glob(f"*/{NAME}")):
        stored = read_jobs(folder) if folder != sweep else {}
        found = {i: job for i, job in stored.items() if i in settings and not queue.get(job.number, OVER).final}
        if found:
            try:
                planned = {run["experiment_id"]: run["settings"] for run in read_plan(folder)["jobs"]}
            except (OSError, ValueError, KeyError, TypeError):
                continue
            same = {i: job for i, job in found.items() if _decisive(planned.get(i, {})) == _decisive(settings[i])}
            jobs.update(same)
            if locks.is_held(folder / schema.LOCK):
                foreign.update(job.number for job in same.values())
    return jobs, foreign


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in NOTED}
