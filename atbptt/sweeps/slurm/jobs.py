"""Which job of Slurm has which run of a sweep: slurm.json in the sweep's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atbptt.runs import schema
from atbptt.sweeps.slurm.queue import QueuedJob
from atbptt.system import locks, write_text

NAME = "slurm.json"


@dataclass(frozen=True)
class SlurmJob:
    """A job of Slurm.

    Attributes:
        number: Slurm's id of it: `12`, or `12_3` in an array.
        stdout: file of what it printed before and after its run (the run itself prints into its own directory).
        stderr: file of what it complained about.
        state: as Slurm last listed it, once it is over.
    """

    number: str
    stdout: Path
    stderr: Path
    state: str | None = None

    def complaint(self) -> str:
        """What its stderr ends with: the last line that speaks of an error, or the last; empty if there is none."""
        try:
            lines = [line.strip() for line in self.stderr.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")


def read_jobs(sweep: Path) -> dict[str, SlurmJob]:
    """The jobs of a sweep by experiment id; none where nothing was sent to Slurm, or the file cannot be read.

    Arguments:
        sweep: the sweep's folder.
    """
    try:
        stored = json.loads((sweep / NAME).read_text())
        return {
            experiment_id: SlurmJob(job["job"], sweep / job["stdout"], sweep / job["stderr"], job["state"])
            for experiment_id, job in stored.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def still_queued(
    sweep: Path, runs: Mapping[str, Mapping[str, Any]], queue: Mapping[str, QueuedJob]
) -> tuple[dict[str, SlurmJob], set[str]]:
    """Jobs of earlier sweeps that have the same runs, asked for in the same way, and are not over.

    Arguments:
        sweep: the folder of the sweep that asks.
        runs: by experiment id, the runs' entries in its plan.
        queue: Slurm's answer.

    Returns:
        The jobs by experiment id, and the ids of those whose launching process is alive and waits for them itself.
    """
    jobs: dict[str, SlurmJob] = {}
    foreign: set[str] = set()
    for record in sorted(sweep.parent.glob(f"*/{NAME}")):
        folder = record.parent
        stored = read_jobs(folder).items() if folder != sweep else ()
        found = {i: job for i, job in stored if i in runs and job.number in queue and not queue[job.number].final}
        if not found:
            continue
        asked = {run["experiment_id"]: run["settings"] for run in read_plan(folder).get("jobs", ())}
        same = {i: job for i, job in found.items() if asked.get(i) == runs[i]["settings"]}
        jobs.update(same)
        if locks.is_held(folder / schema.LOCK):
            foreign.update(job.number for job in same.values())
    return jobs, foreign


def read_plan(sweep: Path) -> dict[str, Any]:
    """The plan of a sweep, empty if there is none that can be read."""
    try:
        return dict(json.loads((sweep / schema.PLAN).read_text()))
    except (OSError, ValueError):
        return {}


def write_jobs(sweep: Path, jobs: Mapping[str, SlurmJob]) -> None:
    """Replace the record of a sweep's jobs, by experiment id.

    Raises:
        StorageError: the folder cannot be written.
    """
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
