"""The record of a search, `<output_dir>/.sweeps/<name>/trials.json`: all that continuing and reporting it need."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from atbptt.config import Settings, check_folder_name, rule_of
from atbptt.errors import ConfigError, listed, printable, require, require_choice, show
from atbptt.runs import schema
from atbptt.runs.status import WAITING
from atbptt.system import make_folder, open_file, read_json, write_text

DIGITS = 6  # of a number that is chosen
STEP_DIGITS = 12  # of one among steps, which Optuna does not take beside them
NEAR = 1e-8  # of a step, within which Optuna takes a number for one of the steps
LARGEST = 1e100  # of the ends of a range: twice its length is a number still, and the ratio of its ends

Value = float | int | str


@dataclass(frozen=True)
class Dimension:
    """The values of an option: one of `choices`, as they are typed, or else a number from `low` to `high`."""

    choices: tuple[str, ...] = ()
    low: int | float = 0.0  # both are whole numbers if the value is one
    high: int | float = 0.0
    step: int | float | None = None  # between values; None for any
    log: bool = False  # whether all orders of magnitude are as likely

    def __str__(self) -> str:
        if self.choices:
            return listed(self.choices)
        how = "" if self.step in (None, 1) else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{how}{', log' * self.log}"

    def check(self, name: str) -> None:
        """Raise a `ConfigError` unless there are choices, or numbers between the ends."""
        if self.choices:
            return
        for end in (self.low, self.high):
            require(-LARGEST <= end <= LARGEST, name, end, f"must be between {-LARGEST:g} and {LARGEST:g}")
        shown = f"{self.low:g} to {self.high:g}"
        require(self.low < self.high, name, shown, "must be an interval from a lower to a higher number")
        require(self.low >= 1 / LARGEST or not self.log, name, shown, "must be above 0 for the tag log")
        require(self.step is None or 0 < self.step <= LARGEST, f"{name}.step", self.step, "must be above 0")

    def allows(self, value: object) -> bool:
        """Whether the value can be chosen."""
        if self.choices:
            return value in self.choices
        kind = int if isinstance(self.low, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < NEAR

    def corner(self, number: int) -> Value:
        """The lowest value, the highest, and one in between that is not whole; the choices in turn."""
        between = self.rounded(self.low + (self.high - self.low) / 2.7) if isinstance(self.low, float) else self.low
        values = self.choices or (self.low, self.high, between)
        return values[number % len(values)]

    def rounded(self, value: Value) -> Value:
        """A chosen number with few digits, so that it can be read and typed."""
        if not isinstance(value, float):
            return value
        digits = DIGITS if self.step is None else STEP_DIGITS
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)


@dataclass
class Trial:
    """One choice of values, and what came of it."""

    number: int  # from 0
    params: dict[str, Any]  # the value of each searched option, a `Value`
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
    space: dict[str, Dimension]  # by the searched option, as typed
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
    """The record in a search's folder (OSError, ValueError).

    Its values become overrides of runs, and somebody else may have written them: each is one that the record's space
    allows.
    """
    check_folder_name("search", folder.name)
    try:
        record = TypeAdapter(SearchRecord).validate_python(read_json(folder / schema.TRIALS))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(show, problem["loc"])) or "its content"
        raise ConfigError(name, f"(={show(problem['input'])}) {rule_of(problem)}") from error
    _check_text("metric", record.metric)
    for name, dimension in record.space.items():
        for text in (name, *dimension.choices):
            _check_text("space", text)
        dimension.check(f"space.{name}")
    for place, trial in enumerate(record.trials):
        _check_trial(trial, place, record.space)
        trial.reason = None if trial.reason is None else printable(" ".join(trial.reason.split()))
    return record


def _check_trial(trial: Trial, place: int, space: Mapping[str, Dimension]) -> None:
    name = f"trials.{place}"
    require(trial.number == place, f"{name}.number", trial.number, "must be the trial's place, from 0")
    rule = f"must be those of the space: {listed(space)}"
    require(trial.params.keys() == space.keys(), f"{name}.params", listed(trial.params), rule)
    for option, value in trial.params.items():
        rule = f"must be chosen from {space[option]}"
        require(space[option].allows(value), f"{name}.params.{option}", value, rule)
    require_choice(f"{name}.state", trial.state, (WAITING, schema.FINISHED, schema.FAILED))
    finished = trial.state == schema.FINISHED
    fits = trial.value is not None and math.isfinite(trial.value) if finished else trial.value is None
    rule = f"must be {'a finite number' if finished else 'null'} in a trial that is {trial.state}"
    require(fits, f"{name}.value", trial.value, rule)
    for run in trial.runs:
        _check_text(f"{name}.runs", run)


def _check_text(name: str, text: str) -> None:
    require(printable(text) == text, name, text, "must be text without control characters")


def write_search(folder: Path, record: SearchRecord) -> None:
    """Replace the record in a search's folder, which is made if it is missing (StorageError)."""
    make_folder(folder)
    write_text(folder / schema.TRIALS, json.dumps(asdict(record), indent=1))


def best_value(directory: Path, metric: str, settings: Settings) -> float | None:
    """The lowest finite value of a metric in a run's directory within the budget of `settings`; None without one.

    A run's status has it too, but for the metric that was monitored when the run was made, and beyond this budget if
    another command asked for more.
    """
    columns, of_metric = ["step", "epoch", "train_seconds", "value"], [("metric", "=", metric)]
    with open_file(os.path.join(directory, schema.METRICS)) as file:
        rows = pq.read_table(file, columns=columns, filters=of_metric).sort_by("step")
    best, best_epoch = math.inf, 0.0
    for row in rows.to_pylist():
        if math.isfinite(row["value"]) and row["value"] < best:
            best, best_epoch = row["value"], row["epoch"]
        if settings.budget_spent(row["epoch"], row["train_seconds"], round(row["epoch"] - best_epoch, 9)):
            break
    return None if best == math.inf else best
