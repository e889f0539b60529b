"""The compact file of a folder of runs: what it holds, and how it is read. `compacting` writes it.

A Parquet file with the rows of `metrics.parquet` of all runs, one run after the other; and in its key-value metadata,
under `runs`, a JSON object with a list for each of these, by run:

- `directory`: the name of its directory in the folder; `rows`: how many rows of the file are its own;
- `files`: for `options.parquet` and `metrics.parquet`, size (bytes) and time of change (ns) when they were read, null
  for one that was not there: while they are the same, or gone, the run is read from here;
- `options`: by name, the `distinct` values, and by run the `codes`, the place of its value among them (-1: none);

and `metrics`, the names of all; under `status` a list of what `atbptt.runs.status` said of each run. Pages have
checksums.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from analysis.loading.options import Column, Options
from analysis.loading.reading import THREADS
from analysis.loading.rows import ID, Choice, Rows, narrowed, to_rows
from atbptt.runs.schema import METRICS, METRICS_SCHEMA, OPTIONS

COMPACT = "compact.parquet"
RUNS, STATUSES = b"runs", b"status"
FILES = (OPTIONS, METRICS)
METRIC = "metric"
COLUMNS = [name for name in METRICS_SCHEMA.names if name != ID]  # the id of a row tells `rows`
READING: dict[str, Any] = {"read_dictionary": [METRIC], "pre_buffer": False, "page_checksum_verification": True}

Stamp = list[int] | None  # size, time of change


class Compacted:
    """A compact file, opened: its footer is read, its rows are not.

    Attributes:
        path: of the file.
        names: by run, its directory's name.
        files: by file name, the stamp of each run's file.
        rows: by run, how many.
        metrics: their names, in alphabetical order.
        options: of the runs.
    """

    def __init__(self, path: str, content: dict[str, Any], rows: int) -> None:
        self.path = path
        self.names: list[str] = content["directory"]
        self.files: dict[str, list[Stamp]] = {name: content["files"][name] for name in FILES}
        self.rows = np.array(content["rows"], np.int64)
        self.metrics: list[str] = content["metrics"]
        columns = {
            name: Column(column["distinct"], np.array(column["codes"], np.int32))
            for name, column in content["options"].items()
        }
        self.options = Options(columns, len(self.names))
        lengths = {len(self.rows), *map(len, self.files.values())}
        lengths |= {len(column.codes) for column in columns.values()}
        if lengths != {len(self.names)} or ID not in columns or int(self.rows.sum()) != rows:
            raise ValueError("its parts do not agree")

    @classmethod
    def open(cls, path: str) -> Compacted:
        """Read the footer; raises one of UNREADABLE."""
        metadata = pq.read_metadata(path)
        stored = (metadata.metadata or {}).get(RUNS)
        if stored is None:
            raise ValueError("is no compact file")
        try:
            return cls(path, json.loads(stored), metadata.num_rows)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"its list of runs is damaged: {error}") from error

    def holds(self, index: int, folder: str) -> bool:
        """Whether a run's files are as they were when this was written, or gone."""
        for name, stamps in self.files.items():
            stamp = stamp_of(f"{folder or os.curdir}/{self.names[index]}/{name}")
            if stamp is not None and stamp != stamps[index]:
                return False
        return True

    @functools.cached_property
    def statuses(self) -> list[dict[str, Any]]:
        """By run, the fields of its `RunStatus` at the time; raises one of UNREADABLE."""
        stored: list[dict[str, Any]] = json.loads(pq.read_metadata(self.path).metadata[STATUSES])
        if len(stored) != len(self.names):
            raise ValueError("its parts do not agree")
        return stored

    def read(self, indexes: Sequence[int], wanted: Choice) -> list[Rows]:
        """The rows of the runs at these places, in one or several pieces in order; raises one of UNREADABLE."""
        chosen = np.zeros(len(self.names), bool)
        chosen[indexes] = True
        ends = np.cumsum(self.rows)
        with pq.ParquetFile(self.path) as file:
            metadata = file.metadata
        if metadata.num_rows != ends[-1]:
            raise ValueError("has been replaced while it was read")
        bounds = np.cumsum([0, *(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))])
        # All of it goes where it is to stay: memory that is new costs more than decoding.
        whole = self._room() if chosen.all() and wanted.get(METRIC) is None else None

        def group(number: int) -> Rows | None:
            first, last = bounds[number], bounds[number + 1]
            runs = np.arange(np.searchsorted(ends, first, "right"), np.searchsorted(ends, last - 1, "right") + 1)
            counts = np.minimum(ends[runs], last) - np.maximum(ends[runs] - self.rows[runs], first)
            if not chosen[runs].any():
                return None
            with pq.ParquetFile(self.path, metadata=metadata, **READING) as file:
                table = file.read_row_group(number, COLUMNS, use_threads=False)
            table.validate(full=True)
            rows = to_rows(table.unify_dictionaries(), runs, counts)
            rows.columns[METRIC] = self._codes(rows.texts[METRIC])[rows.columns[METRIC]]
            rows.texts[METRIC] = self.metrics
            if whole is None:
                return narrowed(rows, wanted, chosen)
            for name, column in rows.columns.items():
                whole.columns[name][first:last] = column
            return None

        with ThreadPoolExecutor(THREADS) as pool:
            pieces = [rows for rows in pool.map(group, range(metadata.num_row_groups)) if rows is not None]
        return pieces if whole is None else [whole]

    def _room(self) -> Rows:
        columns = {name: np.empty(self.rows.sum(), self._kind(name)) for name in COLUMNS}
        runs = np.flatnonzero(self.rows)
        return Rows(runs, self.rows[runs], columns, {METRIC: self.metrics}, settled=True)

    def _kind(self, name: str) -> Any:
        if name == METRIC:
            return np.min_scalar_type(-len(self.metrics) - 1)
        return METRICS_SCHEMA.field(name).type.to_pandas_dtype()

    def _codes(self, names: Sequence[str]) -> np.ndarray:
        if not {*names} <= {*self.metrics}:
            raise ValueError("its parts do not agree")
        return np.array([self.metrics.index(name) for name in names], self._kind(METRIC))


def stamp_of(path: str) -> Stamp:
    """Size and time of change (ns) of a file, None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
