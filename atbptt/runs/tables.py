"""A run's Parquet files of results: each evaluation adds rows, and the whole file is replaced."""

import io
import json
import logging
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atbptt.runs import schema
from atbptt.system import open_file, read_file, write_atomically

LATER = ("compute_seconds", *schema.READINGS)  # columns that checkpoints of earlier versions may lack


class Tables:
    """The tables of one run, in its directory; the first column of each is the run's experiment id."""

    def __init__(self, folder: Path, experiment_id: str) -> None:
        self.folder = folder
        self.experiment_id = experiment_id
        self.content: dict[str, bytes] = {}  # of each file so far
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in schema.SCHEMAS}

    def add(self, name: str, columns: Mapping[str, Any], clock: Mapping[str, float]) -> None:
        """Append an evaluation's rows to a file (StorageError); predictions replace earlier rows.

        The values of `clock` are the same for all rows. NaN is stored as null, except in metrics.
        """
        count = len(next(iter(columns.values())))
        same = {schema.ID: self.experiment_id, **clock}
        arrays = [
            pa.array(
                columns[field.name] if field.name in columns else [same[field.name]] * count,
                type=field.type,
                from_pandas=name != schema.METRICS,
            )
            for field in schema.SCHEMAS[name]
        ]
        rows = pa.table(arrays, schema=schema.SCHEMAS[name])
        self._rows[name] = [rows] if name == schema.PREDICTIONS else [*self._rows[name], rows]
        self.content[name] = serialised(pa.concat_tables(self._rows[name]))
        write(self.folder / name, self.content[name])

    def restore(self, content: Mapping[str, bytes], log: logging.Logger) -> None:
        """Make the files what they were when a checkpoint stored their `content`: later rows and damage go."""
        for name, columns in schema.SCHEMAS.items():
            path, kept = self.folder / name, content.get(name)
            if kept is None:  # there were no such rows yet
                path.unlink(missing_ok=True)
                continue
            rows = pq.read_table(io.BytesIO(kept))
            for column in {*LATER} & {*columns.names} - {*rows.schema.names}:  # of an earlier version
                unknown = pa.array([math.nan] * len(rows), pa.float64(), from_pandas=name != schema.METRICS)
                rows = rows.append_column(column, unknown)
            rows = rows.select(columns.names).cast(columns)
            self.content[name], self._rows[name] = kept, [rows]
            if digest(path) != zlib.crc32(kept):
                if not _holds_later(path, rows["step"][-1].as_py()):  # as a killed run leaves
                    log.warning("%s is damaged or lacks rows, and is restored from the checkpoint", name)
                write(path, kept)


def _holds_later(path: Path, step: int) -> bool:
    try:
        with open_file(path) as file:
            found = pq.read_table(file, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return False
    return found.num_rows > 0 and found["step"][-1].as_py() > step


def digest(path: Path) -> int | None:
    """The CRC-32 of a file's content; None for a file that cannot be read."""
    try:
        return zlib.crc32(read_file(path))
    except OSError:
        return None


def serialised(table: pa.Table, metadata: Mapping[bytes, bytes] | None = None) -> bytes:
    """A table as the content of a Parquet file that is fast to read: runs are many, and their files small."""
    buffer = io.BytesIO()
    # Statistics and Arrow's own schema would double the footer that a reader parses, and no reader uses them.
    options = {"compression": "snappy", "write_statistics": False, "store_schema": False, "write_page_checksum": True}
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table)
        if metadata:
            writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


def serialised_options(options: Mapping[str, Any]) -> bytes:
    """The content of options.parquet: one row, and the same as JSON (see `schema.OPTIONS_JSON`)."""
    as_json = json.dumps(options, default=str).encode()
    return serialised(pa.Table.from_pylist([dict(options)]), {schema.OPTIONS_JSON: as_json})


def read_options(path: Path) -> dict[str, Any]:
    """The row of an options.parquet, without nulls; empty if the file cannot be read."""
    try:
        with open_file(path) as file, pq.ParquetFile(file, page_checksum_verification=True) as table:
            (row,) = table.read().to_pylist()
    except (OSError, ValueError, OverflowError, pa.ArrowException):
        return {}
    return {name: value for name, value in row.items() if value is not None}


def write(path: Path, content: bytes) -> None:
    """Replace a file by this content (StorageError)."""
    write_atomically(path, lambda file: file.write(content))
