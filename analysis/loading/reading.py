"""Long Parquet files of runs -> rows: some hundred at a time, and one by one where something is wrong with one.

Files are small, and most of the time that one takes is Arrow's for opening it and setting up its columns. A scan by
`pyarrow.dataset` spends 1.6 times as much of it, and casts and fills foreign columns without a word.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.loading.rows import ID, Choice, Rows, decoded, narrowed, to_rows
from atbptt.runs import reason
from atbptt.runs.schema import OPTIONS

UNREADABLE = (pa.ArrowException, OSError, ValueError)
CODED = pa.dictionary(pa.int32(), pa.string())
# Buffering ahead costs more than it gains with files that are as small.
READING: dict[str, Any] = {"pre_buffer": False, "page_checksum_verification": True}
FILES = 250  # that are read at a time
THREADS = 2  # more of them wait for each other, since half the work is Python's


def read_rows(
    directories: Sequence[str], ids: Sequence[str], file: str, schema: pa.Schema, problems: list[str], wanted: Choice
) -> Iterator[Rows]:
    """The rows of one file of each run, some runs at a time, in order.

    Arguments:
        directories, ids: of the runs.
        file: its name; a run without it has no rows: it has not come that far.
        schema: of its columns.
        problems: gains a line for each file that is broken or foreign.
        wanted: which rows.
    """

    paths = [os.path.join(directory, file) for directory in directories]

    def some(first: int) -> tuple[Rows, list[str]]:
        runs = [run for run in range(first, min(first + FILES, len(ids))) if os.path.exists(paths[run])]
        of_runs = [paths[run] for run in runs], [ids[run] for run in runs]
        left_out: list[str] = []
        together = _together(*of_runs, schema)
        table, counts = _one_by_one(*of_runs, schema, left_out) if together is None else together
        return narrowed(to_rows(table, np.array(runs, np.int32), counts), wanted), left_out

    with ThreadPoolExecutor(THREADS) as pool:
        for rows, left_out in pool.map(some, range(0, len(ids), FILES)):
            problems += left_out
            yield rows


def read_table(path: str, schema: pa.Schema, experiment_id: str | None = None) -> pa.Table:
    """The table of one file in the given schema, texts coded, every value checked.

    Raises:
        One of UNREADABLE: it is broken, lacks a column, has nulls or values of other types, or is another run's.
    """
    try:
        table = _stored(path, schema)
    except KeyError as error:
        raise ValueError(f"lacks column {error.args[0].decode()}") from error
    if not table.schema.equals(coded(schema)):
        table = _conforming(table, schema)
    table.validate(full=True)
    null = _null_column(table)
    if null is not None:
        raise ValueError(f"column {null} has nulls")
    others = {*table[ID].unique().to_pylist()} - {experiment_id}
    if experiment_id is not None and others:
        raise ValueError(f"{ID} is {min(others)}, but {experiment_id} in {OPTIONS}")
    return table


def open_parquet(content: bytes, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """A Parquet file that was read as a whole; columns named in `texts` are to be read as codes."""
    return pq.ParquetFile(pa.BufferReader(content), read_dictionary=list(texts), **READING)


def check_id(schema: pa.Schema) -> set[str]:
    """The names of the columns; ValueError unless one is an id that is a string."""
    names = {*schema.names}
    if ID not in names:
        raise ValueError(f"lacks column {ID}")
    kind = schema.field(schema.names.index(ID)).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"{ID} is {kind}, must be string")  # a cast would not bring leading zeros back
    return names


@functools.cache
def coded(schema: pa.Schema) -> pa.Schema:
    """The schema with dictionaries in the place of texts."""
    texts = _texts(schema)
    return pa.schema([pa.field(kind.name, CODED) if kind.name in texts else kind for kind in schema])


def _together(paths: Sequence[str], ids: Sequence[str], schema: pa.Schema) -> tuple[pa.Table, np.ndarray] | None:
    """The rows of these files, and how many each has; None unless all are as `read_table` would have them."""
    form = coded(schema)
    try:
        tables = [_stored(path, schema) for path in paths]
        # Raises where a schema is another.
        table = pa.concat_tables([form.empty_table(), *tables]).unify_dictionaries()
        table.validate(full=True)
    except (*UNREADABLE, KeyError):
        return None
    counts = np.array([len(each) for each in tables], np.int64)
    texts, codes = decoded(table[ID])
    places = {name: place for place, name in enumerate(texts)}
    own = np.array_equal(codes, np.repeat([places.get(name, -1) for name in ids], counts))
    return (table, counts) if own and _null_column(table) is None else None


def _one_by_one(
    paths: Sequence[str], ids: Sequence[str], schema: pa.Schema, left_out: list[str]
) -> tuple[pa.Table, np.ndarray]:
    """The same of those files that can be read; `left_out` gains a line for each other."""
    tables = [coded(schema).empty_table()]
    for path, name in zip(paths, ids, strict=True):
        try:
            tables.append(read_table(path, schema, name))
            continue
        except FileNotFoundError:  # it was there a moment ago
            pass
        except UNREADABLE as error:
            left_out.append(f"{path}: {reason(error)}; file skipped")
        tables.append(tables[0])
    return pa.concat_tables(tables).unify_dictionaries(), np.array([len(table) for table in tables[1:]], np.int64)


def _null_column(table: pa.Table) -> str | None:
    """The first column that has nulls and must not; numbers with a fraction may."""
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if column.null_count and not pa.types.is_floating(column.type):
            return str(name)
    return None


def _stored(path: str, schema: pa.Schema) -> pa.Table:
    with open(path, "rb") as file:
        content = file.read()
    with open_parquet(content, _texts(schema)) as parquet:
        return parquet.read(use_threads=False)


@functools.cache
def _texts(schema: pa.Schema) -> list[str]:
    return [kind.name for kind in schema if pa.types.is_string(kind.type)]


def _conforming(table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = [name for name in schema.names if name not in check_id(table.schema)]
    if missing:
        raise ValueError(f"lacks column {missing[0]}")
    if len({*table.schema.names}) < len(table.schema.names):
        raise ValueError("has two columns of the same name")
    table.validate(full=True)
    plain = table.select(schema.names).cast(schema)
    for name in _texts(schema):
        place = plain.schema.get_field_index(name)
        plain = plain.set_column(place, pa.field(name, CODED), pc.dictionary_encode(plain[name]).cast(CODED))
    return plain
