"""Run directories -> data frames."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import AnalysisError
from atbptt.schema import (
    GRADIENTS,
    GRADIENTS_SCHEMA,
    METRICS,
    METRICS_SCHEMA,
    OPTIONS,
    POSITIONS,
    POSITIONS_SCHEMA,
    PREDICTIONS,
    PREDICTIONS_SCHEMA,
    RUNNING,
    STATUS,
)
from atbptt.status import UNKNOWN, read_run

ID = "experiment_id"
Where = Mapping[str, object]  # option -> its value, or a collection of values
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
# Of a run's status, by column.
PROGRESS = {
    "epoch": "float64",
    "epochs": "float64",
    "train_seconds": "float64",
    "monitor": "string",
    "best": "float64",
    "best_epoch": "float64",
    "attempt": "Int64",
    "host": "string",
    "pid": "Int64",
}
UNREADABLE = (pa.ArrowException, OSError, ValueError)


class RunsWarning(UserWarning):
    """What was left out while reading, and why: `problems` has one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n  ".join([f"{len(problems)} left out:", *problems]))


@dataclass(frozen=True)
class _Run:
    directory: Path
    experiment_id: str
    options: pa.Table  # one row


def load(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """Every metric of every run, joined with the run's options on `experiment_id`.

    Arguments:
        path: a run directory, or a folder with run directories below it (an experiment, `outputs/`), or
            several of these. Directories whose name starts with a dot are skipped.
        where: only runs with these options: `{"truncation": "adaptive", "lr": [1, 10]}`; by default all.

    Returns:
        A row per evaluation, metric and replicate. First the columns of `metrics.parquet`:

        - `experiment_id` (string), `step` (training steps of the stream), `epoch` (steps over the stream's
          length), `adaptive_epoch` (the same with the steps that probes consumed), `updates` (optimizer
          steps), `train_seconds` (s, training and probes), `metric` (name), `replicate` (number of the
          probe, else 0), `value` (losses in nats, K in steps).

        Then the options (see `load_options`). An option named like a metric column is `option.<name>`.

    Warns:
        RunsWarning: a file that is missing, broken or foreign, and the run or file left out for it; an
            `experiment_id` that is in two directories (the one with more evaluations is kept).

    Raises:
        AnalysisError: a path that does not exist, or no run that can be read.
    """
    problems: list[str] = []
    runs = _find_runs(path, problems, where)
    metrics = _read_long(runs, METRICS, METRICS_SCHEMA, problems)
    options = _unify([run.options for run in runs])
    _tell(problems)
    clashes = {name: f"option.{name}" for name in METRICS_SCHEMA.names if name != ID}
    return metrics.merge(options.rename(columns=clashes), on=ID, validate="many_to_one")


def load_options(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The options of every run: a row per run, a column per option, null where a run has no such option.

    Nested options have dots in their name (`truncation.K`, steps; `optimizer.weight_decay`), and the groups
    `model`, `dataset`, `truncation`, `optimizer` a column with the chosen name. `name` is the experiment.
    Integers are `Int64` and booleans `boolean`, whether or not one is null; a list is its JSON. An option
    that is a number in one run and a string in another is a string. Path, warnings and errors as in `load`.
    """
    problems: list[str] = []
    runs = _find_runs(path, problems, where)
    _tell(problems)
    return _unify([run.options for run in runs])


def load_metrics(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The metrics of every run without its options: the first columns of `load`, which see."""
    problems: list[str] = []
    metrics = _read_long(_find_runs(path, problems, where), METRICS, METRICS_SCHEMA, problems)
    _tell(problems)
    return metrics


def load_gradients(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The lag profiles of every run: a row per evaluation, probe, component and lag.

    Columns: `experiment_id`, `step`, `epoch`, `replicate` (number of the probe), `component` (`all`, or one
    state tensor of one layer), `lag` (steps, from 1), `phi` (norm of the loss's gradient with respect to the
    state `lag` steps before, mean over streams and loss positions), `kept_of_mean` (norm of the mean gradient
    summed over lags 1..lag); for `all`, of truncation at K = lag, `relative_bias` (its bound), `measured_bias` and
    `cosine` (between the truncated gradient and the probe window's). Path, warnings and errors as in `load`.
    """
    problems: list[str] = []
    gradients = _read_long(_find_runs(path, problems, where), GRADIENTS, GRADIENTS_SCHEMA, problems)
    _tell(problems)
    return gradients


def load_positions(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The lag profiles of every run by loss position: a row per evaluation, probe, position and lag.

    Columns: `experiment_id`, `step`, `epoch`, `replicate` (number of the probe), `position` (the loss's row in the
    probe window, from 0), `lag` (steps, from 1), `phi` (as in `load_gradients`, mean over streams). Arguments, warnings
    and errors as in `load`.
    """
    problems: list[str] = []
    positions = _read_long(_find_runs(path, problems, where), POSITIONS, POSITIONS_SCHEMA, problems)
    _tell(problems)
    return positions


def load_predictions(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """What each run's model said of the beginning of the test split, at its best evaluation.

    Columns: `experiment_id`, `step` and `epoch` (of training, at that evaluation), `stream`, `position` (step of the
    test stream, from 0), `quantity` (`symbol`, `event`, `interval`, `value`), `target`, `predicted`. Arguments,
    warnings and errors as in `load`.
    """
    problems: list[str] = []
    predictions = _read_long(_find_runs(path, problems, where), PREDICTIONS, PREDICTIONS_SCHEMA, problems)
    _tell(problems)
    return predictions


def load_status(path: Paths) -> pd.DataFrame:
    """A row per run: its state as observed, and how far it is.

    Columns: `experiment_id`; `state` (running, finished, failed; interrupted: told to end, with a checkpoint;
    stale: killed, or not heard of for long; waiting: no status file; null if that cannot be read); `directory`;
    `error` (in one line, why a run failed, was interrupted or is stale; else null); `epoch` and `epochs` (how
    far it is, and its budget); `train_seconds` (s); `monitor`, `best`, `best_epoch` (what chooses the best
    evaluation, its value, its epoch); `attempt` (how many times it was begun); `host`, `pid` (where it runs or
    ran); `seconds_left` (s, of a running one). Null what the run did not tell. Path, warnings and errors as in
    `load`.
    """
    problems: list[str] = []
    runs = _find_runs(path, problems)
    statuses = [read_run(run.directory) for run in runs]
    for status in statuses:
        if status.state == UNKNOWN:
            problems.append(f"{status.directory}/{status.why}; state unknown")
    _tell(problems)
    rows = [
        {
            ID: run.experiment_id,
            "state": None if status.state == UNKNOWN else status.state,
            "directory": str(run.directory),
            "error": status.why,
            **{name: getattr(status, name) for name in PROGRESS},
            "seconds_left": status.seconds_left if status.state == RUNNING else None,
        }
        for run, status in zip(runs, statuses, strict=True)
    ]
    # Types that do not depend on which runs there are.
    return pd.DataFrame(rows).astype({"error": "string", **PROGRESS, "seconds_left": "float64"})


def _find_runs(path: Paths, problems: list[str], where: Where | None = None) -> list[_Run]:
    """The runs at or below `path`, each `experiment_id` once; appends what is left out to `problems`."""
    runs = _all_runs(path, problems)
    return [run for run in runs if _asked_for(run.options, where or {})]


def _asked_for(options: pa.Table, where: Where) -> bool:
    for name, asked in where.items():
        value = options[name][0].as_py() if name in options.column_names else None
        choices = asked if isinstance(asked, Collection) and not isinstance(asked, str) else [asked]
        if value not in choices:
            return False
    return True


def _all_runs(path: Paths, problems: list[str]) -> list[_Run]:
    given = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(each) for each in path]
    named = ", ".join(map(str, given))
    found: dict[Path, Path] = {}  # resolved -> as given: a folder that is named twice is read once
    for top in given:
        if not top.is_dir():
            what = "is a file; give a run directory or a folder of them" if top.exists() else "does not exist"
            raise AnalysisError(f"{top}: {what}")
        for directory in _run_directories(top, problems):
            found.setdefault(directory.resolve(), directory)
    if not found:
        raise AnalysisError(f"{named}: no runs (directories with {OPTIONS} and {METRICS}) here or below")

    runs: dict[str, _Run] = {}
    for directory in found.values():
        try:
            options = _read_options(directory / OPTIONS)
        except UNREADABLE as error:
            problems.append(f"{directory / OPTIONS}: {_reason(error)}; run skipped")
            continue
        run = _Run(directory, options[ID][0].as_py(), options)
        other = runs.get(run.experiment_id)
        runs[run.experiment_id] = run if other is None else _longer(other, run, problems)
    if not runs:
        reasons = problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        raise AnalysisError(f"{named}: none of {len(found)} runs can be read: {reasons}")
    return list(runs.values())


def _run_directories(top: Path, problems: list[str]) -> Iterable[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: {_reason(error)}; folder skipped")

    for directory, folders, files in os.walk(top, onerror=unreadable):
        if {OPTIONS, METRICS, STATUS} & {*files}:
            folders.clear()  # runs are not nested
            yield Path(directory)
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _longer(first: _Run, second: _Run, problems: list[str]) -> _Run:
    lengths = [_evaluations(run) for run in (first, second)]
    kept, dropped = (first, second) if lengths[0] >= lengths[1] else (second, first)
    problems.append(
        f"{dropped.directory}: {ID} {kept.experiment_id} is also in {kept.directory}; "
        f"kept the one with more evaluations ({max(lengths)}, here {min(lengths)})"
    )
    return kept


def _evaluations(run: _Run) -> int:
    try:
        return len(_read(run.directory / METRICS, METRICS_SCHEMA)["step"].unique())
    except UNREADABLE:
        return 0


def _read_long(runs: list[_Run], file: str, schema: pa.Schema, problems: list[str]) -> pd.DataFrame:
    """One long table of all runs; a run without the file has no rows: it has not come that far."""
    tables = []
    for run in runs:
        path = run.directory / file
        if not path.exists():
            continue
        try:
            table = _read(path, schema)
            ids = set(table[ID].unique().to_pylist()) - {run.experiment_id}
            if ids:
                raise ValueError(f"{ID} is {min(ids)}, but {run.experiment_id} in {OPTIONS}")
        except UNREADABLE as error:
            problems.append(f"{path}: {_reason(error)}; file skipped")
        else:
            tables.append(table)
    return pa.concat_tables([schema.empty_table(), *tables]).to_pandas()


def _read(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """The file's table in the given schema, every value checked; raises one of UNREADABLE."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    names = table.schema.names
    missing = [name for name in (schema.names if schema else [ID]) if name not in names]
    if missing or len({*names}) < len(names):
        raise ValueError(f"lacks column {missing[0]}" if missing else "has two columns of the same name")
    kind = table.schema.field(ID).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"{ID} is {kind}, must be string")  # a cast would not bring leading zeros back
    if schema:
        table = table.select(schema.names).cast(schema)
    table.validate(full=True)
    for name in table.schema.names if schema else [ID]:
        if table[name].null_count and not pa.types.is_floating(table.schema.field(name).type):
            raise ValueError(f"column {name} has nulls")
    return table


def _read_options(path: Path) -> pa.Table:
    table = _read(path)
    if table.num_rows != 1:
        raise ValueError(f"has {table.num_rows} rows, must have 1")
    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):  # lists have no hash: nothing could be grouped by them
            value = table[field.name][0].as_py()
            text = pa.array([None if value is None else json.dumps(value, default=str)], pa.string())
            table = table.set_column(index, field.name, text)
    return table


def _unify(tables: list[pa.Table]) -> pd.DataFrame:
    """Rows of options with different columns and types -> one frame."""
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, types in kinds.items() if not _unifiable(types)}
    tables = [
        table.cast(pa.schema([(f.name, pa.string() if f.name in mixed else f.type) for f in table.schema]))
        for table in tables
    ]
    table = pa.concat_tables(tables, promote_options="permissive")
    # A column of no type is null in every run, as if absent.
    table = table.select([field.name for field in table.schema if not pa.types.is_null(field.type)])
    return table.to_pandas(types_mapper=_pandas_type)


def _unifiable(types: set[pa.DataType]) -> bool:
    try:
        pa.unify_schemas([pa.schema([("option", kind)]) for kind in types], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _pandas_type(kind: pa.DataType) -> Any:
    # numpy has no null for these two: one absent option would turn its column into floats or objects.
    if pa.types.is_integer(kind):
        return pd.Int64Dtype()
    return pd.BooleanDtype() if pa.types.is_boolean(kind) else None


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _tell(problems: list[str]) -> None:
    if problems:
        warnings.warn(RunsWarning(problems), stacklevel=3)  # of the line that called load, load_options, ...
