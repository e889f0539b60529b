"""The state of a run, of one too that only a compact file has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analysis.loading.finding import Place
from atbptt.runs import STALE, WAITING, RunStatus, read_run
from atbptt.runs.schema import RUNNING


def run_status(place: Place) -> RunStatus:
    """What the status file says; where there is none, what it said when the runs were compacted."""
    status = read_run(Path(place.directory))
    if status.state != WAITING or place.compacted is None:
        return status
    stored = place.compacted.statuses[place.index]
    status = RunStatus(directory=status.directory, **stored)
    return replace(status, state=STALE, why="its directory is gone") if status.state == RUNNING else status
