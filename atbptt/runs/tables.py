"""A run's long Parquet files: rows are appended, or take the place of others, and the whole file is replaced."""

from __future__ import annotations

import io
import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atbptt.runs.schema import (
    GRADIENTS,
    GRADIENTS_SCHEMA,
    METRICS,
    METRICS_SCHEMA,
    OPTIONS_JSON,
    POSITIONS,
    POSITIONS_SCHEMA,
    PREDICTIONS,
    PREDICTIONS_SCHEMA,
)
from atbptt.system import write_atomically

SCHEMAS = {
    METRICS: METRICS_SCHEMA,
    GRADIENTS: GRADIENTS_SCHEMA,
    POSITIONS: POSITIONS_SCHEMA,
    PREDICTIONS: PREDICTIONS_SCHEMA,
}


class Tables:
    """The tables of one run.

    Arguments:
        folder: the run's directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in SCHEMAS}
        self._stored: dict[str, bytes] = {}

    def append(self, name: str, rows: pa.Table) -> None:
        """Add rows to the table of this file name and store all (StorageError)."""
        self._rows[name].append(rows)
        self._stored[name] = serialised(pa.concat_tables(self._rows[name]))
        write(self.folder / name, self._stored[name])

    def replace(self, name: str, rows: pa.Table) -> None:
        """Store these rows in the place of all others of the table (StorageError)."""
        self._rows[name].clear()
        self.append(name, rows)

    def content(self) -> dict[str, bytes]:
        """What each file that there is holds."""
        return dict(self._stored)

    def restore(self, content: Mapping[str, bytes], log: logging.Logger) -> None:
        """Take up what the files held once, see `content`: rows that came later go, a damaged file is made anew."""
        for name, columns in SCHEMAS.items():
            path, kept = self.folder / name, content.get(name)
            if kept is None:  # no evaluation yet, or none with such rows: what is there came later
                path.unlink(missing_ok=True)
                continue
            self._stored[name] = kept
            self._rows[name] = [pq.read_table(io.BytesIO(kept)).cast(columns)]
            if digest(path) != zlib.crc32(kept):
                if not is_later(path, self._rows[name][0]):
                    log.warning("%s is missing or damaged, and restored from the checkpoint", name)
                write(path, kept)


def is_later(path: Path, table: pa.Table) -> bool:
    """Whether a file that can be read has rows of a later training step than a table."""
    try:
        found = pq.read_table(path, columns=["step"], page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return False
    return _last_step(found) > _last_step(table)


def _last_step(table: pa.Table) -> int:
    return max(table["step"].to_pylist(), default=-1)


def digest(path: Path) -> int | None:
    """The CRC-32 of a file's content, None where there is no such file."""
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:
        return None


def serialised(table: pa.Table, metadata: Mapping[bytes, bytes] | None = None) -> bytes:
    """The content of a Parquet file, made to be read fast: runs are many, and their files small.

    Arguments:
        table: of types that Parquet has itself, as the types of `schema` are.
        metadata: what the file says besides its columns.
    """
    buffer = io.BytesIO()
    # Statistics and Arrow's own schema would double the footer that a reader parses, and tell it nothing it asks for.
    options = {"compression": "snappy", "write_statistics": False, "store_schema": False, "write_page_checksum": True}
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table)
        if metadata:
            writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


def serialised_options(options: Mapping[str, Any]) -> bytes:
    """The content of options.parquet: one row, and the same as JSON (see `schema.OPTIONS_JSON`)."""
    return serialised(pa.Table.from_pylist([dict(options)]), {OPTIONS_JSON: json.dumps(options, default=str).encode()})


def write(path: Path, content: bytes) -> None:
    """Replace a file by this content (StorageError)."""
    write_atomically(path, lambda file: file.write(content))
