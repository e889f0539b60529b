"""`python -m analysis compact`: the tables of many runs as one file each."""

import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atbptt.errors import AnalysisError
from atbptt.runs import STALE, RunStatus
from atbptt.runs.schema import CONFIG, ID, METRICS, OPTIONS, RUNNING, SCHEMAS, STATUS
from atbptt.system import replacing

from .finding import STATUSES
from .results import Results


def compact(results: Results, folder: Path) -> list[Path]:
    """Write the tables of all runs to one folder, which `load` and all commands read as they read run directories.

    - `options.parquet`: a row per run, the frame of `load_options`.
    - `metrics.parquet`, `gradients.parquet`, `positions.parquet`, `predictions.parquet`: the rows of all runs, one run
      after the other, with the columns of the run's own file; but for the metrics, only if there are any.
    - `status.parquet`: a row per run, what its status file said; of one that was running, `stale`.

    All are joined on `experiment_id`. Nothing is deleted. Done again, the files are replaced; runs that are left only
    there stay if the folder is among those that `results` reads.

    Arguments:
        results: of the runs; `problems` gains what cannot be read, and is not in the files.
        folder: where to; made if it is not there.

    Returns:
        The files.

    Raises:
        AnalysisError: no run that can be read, a run directory as folder, or a file there that cannot be read and would
            be replaced.
        StorageError: a folder that cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise AnalysisError(f"{folder}: is a file; give a folder to write to")
    if (folder / STATUS).exists() or (folder / CONFIG).exists():
        raise AnalysisError(f"{folder}: is a run directory; give another folder to write to")
    options, states = results.options, pa.Table.from_pylist([_fields(status) for status in results.statuses])
    written = [_write(results, folder / OPTIONS, _strings(pa.Table.from_pandas(options, preserve_index=False)))]
    for name, schema in SCHEMAS.items():
        tables = results.tables(name)
        first = next((table for table in tables if len(table)), schema.empty_table())
        if name == METRICS or len(first):
            written.append(_write(results, folder / name, first.cast(schema), tables))
    return [*written, _write(results, folder / STATUSES, states)]


def _write(results: Results, path: Path, first: pa.Table, more: Iterable[pa.Table] = ()) -> Path:
    with replacing(path) as temporary, pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in more:
            if len(table):
                writer.write_table(table.cast(first.schema))
        for problem in results.problems:
            if problem.startswith(f"{path.parent}{os.sep}"):
                raise AnalysisError(f"{problem}; move it away, or give another folder to write to")
    return path


def _strings(table: pa.Table) -> pa.Table:
    kinds = [
        pa.field(kind.name, pa.string() if pa.types.is_large_string(kind.type) else kind.type) for kind in table.schema
    ]
    return table.cast(pa.schema(kinds))


def _fields(status: RunStatus) -> dict[str, object]:
    if status.state == RUNNING:
        status = replace(status, state=STALE, why="was running when it was compacted")
    fields = asdict(status)
    del fields["directory"], fields["stamp"]
    return {ID: fields.pop(ID), **fields}
