"""All that is known of some runs, each part read when it is asked for."""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa

from atbptt.errors import AnalysisError
from atbptt.monitor import Reader
from atbptt.runs import RunStatus
from atbptt.runs.schema import GRADIENTS, POSITIONS, PREDICTIONS, SCHEMAS

from .finding import Paths, Run, find_runs, sources, statuses
from .frames import joined, status_frame, table
from .options import Where, by_run
from .reading import read_tables
from .searches import Search, find_searches


class Results:
    """The runs at and below some paths, found when the first part is read.

    Arguments:
        paths: run directories, compacted folders, or folders with some below them.
        where: only runs with these options, see `load`; by default all.

    Attributes:
        paths, where: as given.
        problems: a line for each file or run left out of what was read so far, each once.

    Raises (when a part is read):
        AnalysisError: a path that does not exist, no run that can be read, or none with these options.
    """

    def __init__(self, paths: Paths, where: Where | None = None) -> None:
        one = isinstance(paths, str | os.PathLike)
        self.paths = [Path(paths)] if one else [Path(path) for path in paths]  # type: ignore[union-attr, arg-type]
        self.where = where
        self._problems: list[str] = []

    @property
    def problems(self) -> list[str]:
        return list(dict.fromkeys(self._problems))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Metrics joined with options, see `load`; empty before the first evaluation."""
        return joined(self._runs, self._problems)

    @cached_property
    def options(self) -> pd.DataFrame:
        """A row per run, see `load_options`."""
        return by_run([run.options for run in self._runs])

    @cached_property
    def status(self) -> pd.DataFrame:
        """A row per run, see `load_status`."""
        return status_frame(self.statuses)

    @cached_property
    def statuses(self) -> list[RunStatus]:
        """The state of each run, in the order of `options`."""
        return statuses(self._runs, self._problems)

    @cached_property
    def order(self) -> list[str]:
        """The runs in the order of the commands that launched them, the oldest first; others are left out."""
        try:
            sweeps = Reader(self.paths).read().sweeps
        except AnalysisError:  # there are only compacted folders
            return []
        ids = {os.path.normpath(status.directory): status.experiment_id for status in self.statuses}
        found = (ids.get(os.path.normpath(run.last.directory)) for sweep in sweeps for run in sweep.runs)
        return list(dict.fromkeys(filter(None, found)))

    @cached_property
    def searches(self) -> list[Search]:
        """The searches that the runs belong to, see `load_trials`."""
        return find_searches(self._runs, self._problems)

    @property
    def compacted(self) -> list[RunStatus]:
        """The states of the runs that are read from compacted folders."""
        pairs = zip(self._runs, self.statuses, strict=True)
        return [status for run, status in pairs if run.folder.compacted]

    def gradients(self, ids: Iterable[str]) -> pd.DataFrame:
        """Lag profiles of these runs, see `load_gradients`: of all runs of a large sweep they would not fit."""
        return self._table(GRADIENTS, ids)

    def positions(self, ids: Iterable[str]) -> pd.DataFrame:
        """Lag profiles by loss position of these runs, see `load_positions`."""
        return self._table(POSITIONS, ids)

    def predictions(self, ids: Iterable[str]) -> pd.DataFrame:
        """Targets and predictions of these runs, see `load_predictions`."""
        return self._table(PREDICTIONS, ids)

    def tables(self, file: str) -> Iterator[pa.Table]:
        """The rows of one file of all runs, some runs at a time."""
        return read_tables(sources(self._runs), file, SCHEMAS[file], self._problems)

    def _table(self, file: str, ids: Iterable[str]) -> pd.DataFrame:
        chosen = {*ids}
        return table([run for run in self._runs if run.id in chosen], file, self._problems)

    @cached_property
    def _runs(self) -> list[Run]:
        found = find_runs(self.paths, self._problems, self.where)
        if not found:
            raise AnalysisError(f"{', '.join(map(str, self.paths))}: no run has the options asked for")
        return found
