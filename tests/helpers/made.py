"""Sweeps made by hand: a plan, and status files of its runs."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atbptt.runs import schema

COMMAND = ("launch.py", "-m", "lr=1,10")


def write_status(directory: Path, state: str, **fields: Any) -> Path:
    """A run's directory with a status file: half of 4 epochs at 5 s an epoch unless told otherwise."""
    status = {
        "experiment_id": directory.name,
        "state": state,
        "error": None,
        "epoch": 4.0 if state == schema.FINISHED else 2.0,
        "epochs": 4.0,
        "first_epoch": 0.0,
        "elapsed": 20.0 if state == schema.FINISHED else 10.0,
        "K": 7,
        "monitor": "valid_ppl",
        "best": 1.25,
        "best_epoch": 1.5,
        "host": "node1.cluster",
        "pid": 4711,
        "attempt": 1,
        "heartbeat": time.time(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / schema.STATUS).write_text(json.dumps({**status, **fields}))
    return directory


def write_plan(
    outputs: Path, name: str, runs: Mapping[str, Path], started: float = 1000.0, epochs: float = 4.0, **content: Any
) -> Path:
    """The folder `root/.sweeps/name` with a plan of the runs, by label; nobody holds its lock."""
    folder = outputs / schema.SWEEPS / name
    folder.mkdir(parents=True)
    jobs = [
        {
            "label": label,
            "overrides": label.split(),
            "experiment_id": directory.name,
            "path": os.path.relpath(directory, folder),
            "settings": {"epochs": epochs, "seconds": None},
        }
        for label, directory in runs.items()
    ]
    launch = {"command": COMMAND, "host": "node0.cluster", "pid": 99, "started": started}
    plan = {**launch, "directory": str(outputs), "code": {}, "jobs": jobs, **content}
    (folder / schema.PLAN).write_text(json.dumps(plan))
    (folder / schema.LOCK).touch()
    return folder
