"""The record of a search, `<output_dir>/.sweeps/<name>/trials.json`: all that continuing and reporting it need."""

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from atbptt.config import Settings
from atbptt.runs import schema
from atbptt.runs.status import WAITING
from atbptt.system import StorageError, open_file, read_json, write_text


@dataclass
class Trial:
    """One choice of values, and what came of it."""

    number: int  # from 0
    params: dict[str, Any]  # the value of each searched option
    state: str = WAITING  # or finished or failed
    value: float | None = None  # of a finished trial: its best validation, mean over its runs; lower is better
    reason: str | None = None  # why it failed, in one line
    runs: list[str] = field(default_factory=list)  # directories of its runs, relative to the search's folder


@dataclass
class SearchRecord:
    """A search and its trials so far."""

    definition: str  # hash of what is searched and how
    metric: str  # `valid_ppl`: whose best values are compared
    command: list[str]  # that began it
    n_trials: int  # asked for
    space: dict[str, dict[str, Any]]  # the fields of `Dimension` of each searched option
    trials: list[Trial] = field(default_factory=list)

    @property
    def over(self) -> list[Trial]:
        """The trials that have finished or failed."""
        return [trial for trial in self.trials if trial.state != WAITING]

    @property
    def failed(self) -> int:
        """How many trials have failed."""
        return sum(trial.state == schema.FAILED for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The finished trial with the lowest value, the earliest of equal ones."""
        finished = [trial for trial in self.trials if trial.value is not None]
        return min(finished, key=lambda trial: float(trial.value or 0.0), default=None)


def read_search(folder: Path) -> SearchRecord:
    """The record in a search's folder (OSError, ValueError)."""
    return TypeAdapter(SearchRecord).validate_python(read_json(folder / schema.TRIALS))


def write_search(folder: Path, record: SearchRecord) -> None:
    """Replace the record in a search's folder, which is made if it is missing (StorageError)."""
    make_folder(folder)
    write_text(folder / schema.TRIALS, json.dumps(asdict(record), indent=1))


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror}") from error


def best_value(directory: Path, metric: str, settings: Settings) -> float | None:
    """The lowest finite value of a metric in a run's directory within the budget of `settings`; None without one.

    A run's status has it too, but for the metric that was monitored when the run was made, and beyond this budget if
    another command asked for more.
    """
    columns, of_metric = ["step", "epoch", "train_seconds", "value"], [("metric", "=", metric)]
    with open_file(os.path.join(directory, schema.METRICS)) as file:
        rows = pq.read_table(file, columns=columns, filters=of_metric).sort_by("step")
    values = []
    for row in rows.to_pylist():
        values.append(row["value"])
        if settings.budget_spent(row["epoch"], row["train_seconds"]):
            break
    return min(filter(math.isfinite, values), default=None)
