"""A run's Parquet files, metrics and lag profiles: rows are appended, and the whole file is replaced."""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atbptt.files import write_atomically
from atbptt.schema import GRADIENTS, GRADIENTS_SCHEMA, METRICS, METRICS_SCHEMA

SCHEMAS = {METRICS: METRICS_SCHEMA, GRADIENTS: GRADIENTS_SCHEMA}


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

    def content(self) -> dict[str, bytes]:
        """What each file that there is holds."""
        return dict(self._stored)

    def restore(self, content: Mapping[str, bytes], log: logging.Logger) -> None:
        """Take up what the files held once, see `content`: rows that came later go, a damaged file is made anew."""
        for name, columns in SCHEMAS.items():
            path, kept = self.folder / name, content.get(name)
            if kept is None:  # no evaluation yet
                continue
            self._stored[name] = kept
            self._rows[name] = [pq.read_table(io.BytesIO(kept)).cast(columns)]
            if digest(path) != zlib.crc32(kept):
                if rows_of(path) in (None, len(self._rows[name][0])):  # else there are rows that came later
                    log.warning("%s is missing or damaged, and restored from the checkpoint", name)
                write(path, kept)


def rows_of(path: Path) -> int | None:
    """Rows of a Parquet file, None if it cannot be read."""
    try:
        return len(pq.read_table(path))
    except (pa.ArrowException, OSError):
        return None


def digest(path: Path) -> int | None:
    """The CRC-32 of a file's content, None where there is no such file."""
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:
        return None


def serialised(table: pa.Table) -> bytes:
    """The content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    """Replace a file by this content (StorageError)."""
    write_atomically(path, lambda file: file.write(content))
