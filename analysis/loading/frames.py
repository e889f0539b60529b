"""Run directories -> data frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.loading.finding import Paths, Runs, find_runs, rows_of
from analysis.loading.options import Where
from analysis.loading.rows import ID, Rows, check_wanted, to_columns
from analysis.loading.states import run_status
from atbptt.runs import UNKNOWN, RunStatus
from atbptt.runs.schema import (
    GRADIENTS,
    GRADIENTS_SCHEMA,
    METRICS,
    METRICS_SCHEMA,
    POSITIONS,
    POSITIONS_SCHEMA,
    PREDICTIONS,
    PREDICTIONS_SCHEMA,
    RUNNING,
)

Names = str | Iterable[str]  # names and patterns
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


class RunsWarning(UserWarning):
    """What was left out while reading, and why: `problems` has one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n  ".join([f"{len(problems)} left out:", *problems]))


def load(path: Paths, metrics: Names | None = None, where: Where | None = None) -> pd.DataFrame:
    """Metrics of every run, joined with the run's options on `experiment_id`.

    Arguments:
        path: a run directory, or a folder with run directories below it (an experiment, `outputs/`), or
            several of these. Directories whose name starts with a dot are skipped.
        metrics: only these, by name or pattern: `"valid_ppl"`, `["K", "valid_*"]`; by default all.
        where: only runs with these options: `{"truncation": "adaptive", "lr": [1, 10]}`; by default all. None asks
            for runs that have no such option. Files of other runs are not opened, but for their options.

    Returns:
        A row per evaluation, metric and replicate, the rows of a run together. First the columns of `metrics.parquet`:

        - `experiment_id` (string), `step` (training steps of the stream), `epoch` (steps over the stream's
          length), `adaptive_epoch` (the same with the steps that probes consumed), `updates` (optimizer
          steps), `train_seconds` (s, training and probes), `metric` (name, a category), `replicate` (number of the
          probe, else 0), `value` (losses in nats, K in steps).

        Then the options as in `load_options`, but texts as categories. An option named like a metric column is
        `option.<name>`. One that is the same in all runs takes no memory, and cannot be changed row by row: assign
        a new column.

    Warns:
        RunsWarning: a file that is missing, broken or foreign, and the run or file left out for it; an
            `experiment_id` that is in two directories (the one with more evaluations is kept).

    Raises:
        AnalysisError: a path that does not exist, no run that can be read, an option that no run has, or a metric
            that none has that was evaluated (a pattern may find none).
    """
    problems: list[str] = []
    runs = find_runs(path, problems, where)
    rows = _read(runs, METRICS, METRICS_SCHEMA, problems, "metric", metrics)
    _warn(problems)
    with ThreadPoolExecutor(1) as aside:  # both mostly wait for memory
        spread = aside.submit(runs.options.by_row, rows.runs, rows.counts)
        columns = to_columns(rows, runs.ids, METRICS_SCHEMA)
    for name, column in spread.result().items():
        columns[f"option.{name}" if name in METRICS_SCHEMA.names else name] = column
    return pd.DataFrame(columns, copy=False)


def load_options(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The options of every run: a row per run, a column per option, null where a run has no such option.

    Nested options have dots in their name (`truncation.K`, steps; `optimizer.weight_decay`), and the groups
    `model`, `dataset`, `truncation`, `optimizer` a column with the chosen name. `name` is the experiment.
    Integers are `Int64` and booleans `boolean`, whether or not one is null; a list is its JSON. An option
    that is a number in one run and a string in another is a string; one that is null in all runs has no column.
    Arguments, warnings and errors as in `load`.
    """
    problems: list[str] = []
    runs = find_runs(path, problems, where)
    _warn(problems)
    return runs.options.by_run()


def load_metrics(path: Paths, metrics: Names | None = None, where: Where | None = None) -> pd.DataFrame:
    """The metrics of every run without its options: the first columns of `load`, which see."""
    return _load(path, METRICS, METRICS_SCHEMA, where, "metric", metrics)


def load_gradients(path: Paths, where: Where | None = None, components: Names | None = None) -> pd.DataFrame:
    """The lag profiles of every run: a row per evaluation, probe, component and lag.

    Columns: `experiment_id`, `step`, `epoch`, `replicate` (number of the probe), `component` (`all`, or one
    state tensor of one layer; a category), `lag` (steps, from 1), `phi` (norm of the loss's gradient with respect to
    the state `lag` steps before, mean over streams and loss positions), `kept_of_mean` (norm of the mean gradient
    summed over lags 1..lag); for `all`, of truncation at K = lag, `relative_bias` (its bound), `measured_bias` and
    `cosine` (between the truncated gradient and the probe window's). `components` are chosen as the metrics of `load`
    are: names or patterns. Path, `where`, warnings and errors as in `load`.
    """
    return _load(path, GRADIENTS, GRADIENTS_SCHEMA, where, "component", components)


def load_positions(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The lag profiles of every run by loss position: a row per evaluation, probe, position and lag.

    Columns: `experiment_id`, `step`, `epoch`, `replicate` (number of the probe), `position` (the loss's row in the
    probe window, from 0), `lag` (steps, from 1), `phi` (as in `load_gradients`, mean over streams). Arguments, warnings
    and errors as in `load`.
    """
    return _load(path, POSITIONS, POSITIONS_SCHEMA, where)


def load_predictions(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """What each run's model said of the beginning of the test split, at its best evaluation.

    Columns: `experiment_id`, `step` and `epoch` (of training, at that evaluation), `stream`, `position` (step of the
    test stream, from 0), `quantity` (`symbol`, `event`, `interval`, `value`; a category), `target`, `predicted`.
    Arguments, warnings and errors as in `load`.
    """
    return _load(path, PREDICTIONS, PREDICTIONS_SCHEMA, where)


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
    runs = find_runs(path, problems)
    statuses = [run_status(place) for place in runs.places]
    for status in statuses:
        if status.state == UNKNOWN:
            problems.append(f"{status.directory}/{status.why}; state unknown")
    _warn(problems)
    return status_frame(runs.ids, statuses)


def status_frame(ids: Sequence[str], statuses: Sequence[RunStatus]) -> pd.DataFrame:
    """The frame of `load_status`; its types do not depend on which runs there are."""
    rows: dict[str, Any] = {
        ID: ids,
        "state": [None if status.state == UNKNOWN else status.state for status in statuses],
        "directory": [str(status.directory) for status in statuses],
        "error": [status.why for status in statuses],
        **{name: [getattr(status, name) for status in statuses] for name in PROGRESS},
        "seconds_left": [status.seconds_left if status.state == RUNNING else None for status in statuses],
    }
    return pd.DataFrame(rows).astype({"error": "string", **PROGRESS, "seconds_left": "float64"})


def _load(
    path: Paths, file: str, schema: pa.Schema, where: Where | None, what: str | None = None, names: Names | None = None
) -> pd.DataFrame:
    problems: list[str] = []
    runs = find_runs(path, problems, where)
    rows = _read(runs, file, schema, problems, what, names)
    _warn(problems, 4)
    return pd.DataFrame(to_columns(rows, runs.ids, schema), copy=False)


def _read(
    runs: Runs, file: str, schema: pa.Schema, problems: list[str], what: str | None = None, names: Names | None = None
) -> Rows:
    """The rows of a long table of these runs with the texts that are asked for."""
    asked = names if names is None or isinstance(names, str) else list(names)
    rows = rows_of(runs, file, schema, problems, {} if what is None else {what: asked})
    if what is not None:
        check_wanted(f"{what}s", rows.seen.get(what, set()), asked)
    return rows


def _warn(problems: list[str], stacklevel: int = 3) -> None:
    if problems:
        warnings.warn(RunsWarning(problems), stacklevel=stacklevel)  # of the line that called load, load_options, ...
