"""Run directories and compacted folders -> data frames."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from atbptt.errors import printable
from atbptt.runs import UNKNOWN, RunStatus
from atbptt.runs.schema import GRADIENTS, ID, METRICS, METRICS_SCHEMA, POSITIONS, PREDICTIONS, RUNNING, SCHEMAS

from .finding import Paths, Run, find_runs, sources, statuses
from .options import Where, by_row, by_run
from .reading import Names, as_text, coded, read_tables
from .searches import find_searches, trials_frame

Asked = str | Iterable[str] | None  # names and patterns, None for all
# Columns of `load_status` that are fields of `RunStatus`.
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
        self.problems = [printable(problem) for problem in problems]
        super().__init__("\n  ".join([f"{len(problems)} left out:", *self.problems]))


def load(path: Paths, metrics: Asked = None, where: Where | None = None) -> pd.DataFrame:
    """Metrics of every run, joined with the run's options on `experiment_id`.

    Arguments:
        path: a run directory, a compacted folder (see `compact`), a folder with any of these below it (an experiment,
            `outputs/`), or several paths. Directories whose name starts with a dot are skipped, and links to
            directories are not followed.
        metrics: only these, by name or pattern: `"valid_ppl"`, `["K", "valid_*"]`; by default all.
        where: only runs with these options: `{"truncation": "adaptive", "lr": [1, 10]}`; by default all. None asks
            for runs without the option. `tags` are found by any of them, `notes` by a part of them, in upper or lower
            case. Of other runs only the options are read.

    Returns:
        A row per evaluation, metric and replicate, the rows of a run together. First the columns of `metrics.parquet`:

        - `experiment_id` (string), `step` (training steps of the stream), `epoch` (steps over the stream's
          length), `adaptive_epoch` (the same with the steps that probes consumed), `updates` (optimizer
          steps), `train_seconds` (s, training and probes), `compute_seconds` (s, the same in processor time, on a GPU
          its own; NaN in runs of earlier versions), `metric` (name, a category), `replicate` (number of the probe,
          else 0), `value` (losses in nats, K in steps).

        Then the options as in `load_options`, but texts as categories. An option named like a metric column is
        `option.<name>`. An option that is the same in all runs takes no memory, and cannot be changed row by row:
        assign a new column.

        Each run of an experiment is read once: from a run directory rather than a compacted folder; of two run
        directories, from the one with more evaluations; of two compacted folders, from the first. Where several
        experiments (options `name`) have a run with the same settings, its `experiment_id` is `<id>@<name>` in each.

    Warns:
        RunsWarning: a file that is missing, broken or foreign, and the run or file left out for it; a link that is not
            followed; a run of an experiment in two run directories or two compacted folders.

    Raises:
        AnalysisError: a path that does not exist, no run that can be read, an option that no run has, or a metric
            that none of the evaluated runs has (a pattern may find none).
    """
    with _warning() as problems:
        return joined(find_runs(path, problems, where), problems, metrics)


def load_options(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The options of every run: a row per run, a column per option, null where a run has no such option.

    Nested options have dots in their name (`truncation.K`, steps; `optimizer.weight_decay`), and the groups
    `model`, `dataset`, `truncation`, `optimizer`, `lr_decay` a column with the chosen name. `name` is the experiment.
    `ended_by` is `patience` for runs that ended by it.
    Integers are `Int64` and booleans `boolean`, whether or not one is null; a list is its JSON, but `tags` are
    `night, long`. An option
    that is a number in one run and a string in another is a string; one that is null in all runs has no column.
    Arguments, warnings and errors as in `load`.
    """
    with _warning() as problems:
        return by_run([run.options for run in find_runs(path, problems, where)])


def load_metrics(path: Paths, metrics: Asked = None, where: Where | None = None) -> pd.DataFrame:
    """The metrics of every run without its options: the first columns of `load`."""
    with _warning() as problems:
        return table(find_runs(path, problems, where), METRICS, problems, Names.of("metric", metrics))


def load_gradients(path: Paths, where: Where | None = None, components: Asked = None) -> pd.DataFrame:
    """The lag profiles of every run: a row per evaluation, probe, component and lag.

    Columns: `experiment_id`, `step`, `epoch`, `replicate` (number of the probe), `component` (`all`, or one
    state tensor of one layer; a category), `lag` (steps, from 1), `phi` (norm of the loss's gradient with respect to
    the state `lag` steps before, mean over streams and loss positions), `kept_of_mean` (norm of the mean gradient
    summed over lags 1..lag); for `all`, of truncation at K = lag, `relative_bias` (its bound), `measured_bias` and
    `cosine` (of the scheme, against the probe window's gradient), both of exactly K steps (`..._of_steps`), and the
    noise of the gradient: `square`, `spread`, `signal`, `signal_to_noise`. `components` are chosen as the metrics of
    `load` are: names or patterns. Path, `where`, warnings and errors as in `load`.
    """
    with _warning() as problems:
        return table(find_runs(path, problems, where), GRADIENTS, problems, Names.of("component", components))


def load_positions(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """The lag profiles of every run by loss position: a row per evaluation, probe, position and lag.

    Columns: `experiment_id`, `step`, `epoch`, `replicate` (number of the probe), `position` (the loss's row in the
    probe window, from 0), `lag` (steps, from 1), `phi` (as in `load_gradients`, mean over streams). Arguments, warnings
    and errors as in `load`.
    """
    with _warning() as problems:
        return table(find_runs(path, problems, where), POSITIONS, problems)


def load_predictions(path: Paths, where: Where | None = None) -> pd.DataFrame:
    """What each run's model said of the beginning of the test split, at its best evaluation.

    Columns: `experiment_id`, `step` and `epoch` (of training, at that evaluation), `stream`, `position` (step of the
    test stream, from 0), `quantity` (`symbol`, `event`, `interval`, `value`; a category), `target`, `predicted`.
    Arguments, warnings and errors as in `load`.
    """
    with _warning() as problems:
        return table(find_runs(path, problems, where), PREDICTIONS, problems)


def load_status(path: Paths) -> pd.DataFrame:
    """A row per run: its state as observed, and its progress.

    Columns: `experiment_id`; `state` (running, finished, failed; interrupted: stopped by a signal, with a checkpoint;
    stale: killed, or no heartbeat for long; waiting: no status file; null if that cannot be read); `directory`;
    `error` (in one line, why a run failed, was interrupted or is stale; else null); `epoch` and `epochs` (reached, and
    the budget); `train_seconds` (s); `monitor`, `best`, `best_epoch` (the metric that chooses the best evaluation, its
    value, its epoch); `attempt` (how many times it was begun); `host`, `pid` (where it runs or ran); `seconds_left`
    (s, of a running one). Null what the run did not store. A run of a compacted folder has the state that it had when
    it was compacted, or counts as finished where the folder has no `status.parquet`. Path, warnings and errors as in
    `load`.
    """
    with _warning() as problems:
        return status_frame(statuses(find_runs(path, problems), problems))


def load_trials(path: Paths) -> pd.DataFrame:
    """The trials of the searches that the runs belong to: a row per trial and run; a trial without runs has one too.

    Columns: `search` (its name), `trial` (number), `state` (finished, failed, or waiting for its result), `value` (of
    a finished trial: its best validation, mean over its runs), `reason` (why it failed), `experiment_id` (null for a
    run that is not at or below the path), then the searched options with the values chosen. Path, warnings and errors
    as in `load`.
    """
    with _warning() as problems:
        return trials_frame(find_searches(find_runs(path, problems), problems))


def status_frame(found: Sequence[RunStatus]) -> pd.DataFrame:
    """The frame of `load_status`; its types do not depend on which runs there are."""
    rows: dict[str, Any] = {
        ID: [status.experiment_id for status in found],
        "state": [None if status.state == UNKNOWN else status.state for status in found],
        "directory": [str(status.directory) for status in found],
        "error": [status.why for status in found],
        **{name: [getattr(status, name) for status in found] for name in PROGRESS},
        "seconds_left": [status.seconds_left if status.state == RUNNING else None for status in found],
    }
    return pd.DataFrame(rows).astype({"error": "string", **PROGRESS, "seconds_left": "float64"})


def joined(runs: Sequence[Run], problems: list[str], metrics: Asked = None) -> pd.DataFrame:
    """The frame of `load`."""
    columns, places = _columns(runs, METRICS, problems, Names.of("metric", metrics))
    for name, column in by_row([run.options for run in runs], places).items():
        columns[f"option.{name}" if name in METRICS_SCHEMA.names else name] = column
    return pd.DataFrame(columns, copy=False)


def table(runs: Sequence[Run], file: str, problems: list[str], names: Names | None = None) -> pd.DataFrame:
    """The rows of one file of each run."""
    return pd.DataFrame(_columns(runs, file, problems, names)[0], copy=False)


def _columns(
    runs: Sequence[Run], file: str, problems: list[str], names: Names | None
) -> tuple[dict[str, Any], np.ndarray]:
    """The columns of one file of each run in the order of the runs, and by row the place of its run."""
    schema = SCHEMAS[file]
    tables = [coded(schema).empty_table(), *read_tables(sources(runs), file, schema, problems, names)]
    if names is not None:
        names.check()
    whole = pa.concat_tables(tables).unify_dictionaries()
    del tables
    columns: dict[str, Any] = dict.fromkeys(schema.names)
    ids, codes = _decoded(whole[ID])
    place_of = {run.id: place for place, run in enumerate(runs)}
    places = np.array([place_of.get(identity, -1) for identity in ids], np.intp)[codes]
    order = None if (np.diff(places) >= 0).all() else np.argsort(places, kind="stable")
    places = places if order is None else places[order]
    for name in schema.names[1:]:
        column = whole[name]
        whole = whole.drop_columns([name])  # one by one, to free the memory of each before the next is made
        texts, values = _decoded(column) if pa.types.is_dictionary(column.type) else (None, column.to_numpy())
        del column
        values = values if order is None else values[order]
        columns[name] = values if texts is None else _categories(texts, values)
    pa.default_memory_pool().release_unused()  # else Arrow keeps what it has freed of hundreds of small tables
    columns[ID] = pa.array([run.id for run in runs], pa.large_string()).take(pa.array(places)).to_pandas()
    return columns, places


def _decoded(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The texts of a coded column, whose chunks have one dictionary, and the codes."""
    texts = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    return texts, pa.chunked_array([chunk.indices for chunk in column.chunks], pa.int32()).to_numpy()


def _categories(texts: Sequence[str], codes: np.ndarray) -> pd.Categorical:
    """Texts in alphabetical order, those in use only."""
    counts = np.bincount(codes, minlength=len(texts))
    used = sorted(text for text, count in zip(texts, counts, strict=True) if count)
    new = {text: place for place, text in enumerate(used)}
    kind = np.min_scalar_type(-len(used) - 1)
    recoded = np.array([new.get(text, -1) for text in texts], kind)[codes]
    return pd.Categorical.from_codes(recoded, as_text(used), validate=False)


@contextmanager
def _warning() -> Iterator[list[str]]:
    """A list of problems, of which is warned in the end: at the line that called load, load_options, ..."""
    problems: list[str] = []
    yield problems
    if problems:
        warnings.warn(RunsWarning(problems), stacklevel=4)
