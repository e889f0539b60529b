"""Parquet files of runs -> Arrow tables, checked and narrowed to the rows asked for.

Files of runs are small, and most of the time that one takes is Arrow's for opening it and setting up its columns.
`pyarrow.dataset` takes longer, and casts and fills foreign columns without a word.
"""

from __future__ import annotations

import fnmatch
import functools
import math
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atbptt.errors import unknown
from atbptt.runs import reason
from atbptt.runs.schema import ID, OPTIONS, READINGS
from atbptt.system import open_file

UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError)
BYTES = "BYTE_ARRAY"  # how Parquet stores texts
CODED = pa.dictionary(pa.int32(), pa.string())
# Files from elsewhere may lack these; they are read as NaN.
OPTIONAL = (
    *("adaptive_epoch", "train_seconds", "compute_seconds"),
    *("kept_of_mean", *READINGS),
)
# Of all tables; a clock that was not stored is NaN.
RANGES = {
    **dict.fromkeys(("step", "updates", "position", "stream"), (0, 1e15)),
    **dict.fromkeys(("epoch", "adaptive_epoch", "train_seconds", "compute_seconds"), (0, 1e12)),
    "replicate": (0, 1e6),
    "lag": (1, 1e7),
}
# A file may decode to so many bytes, and so many times its own: ours to a tenth of that, crafted ones to gigabytes.
DECODED, TIMES = 10_000_000, 200
FOLDERS = 100  # read at a time
SMALL = 1 << 20  # bytes; such a file is read at once
THREADS = 2  # more of them wait for each other, since half the work is Python's


@dataclass(frozen=True)
class Source:
    """A folder with the files of one run, or of many.

    Attributes:
        folder: its path.
        ids: of all its runs, as in its options.parquet.
        chosen: those whose rows are asked for, with the ids that these get.
    """

    folder: str
    ids: Collection[str]
    chosen: Mapping[str, str]


@dataclass
class Names:
    """The names or patterns asked for in a column of texts, None for all of them; and the names met while reading."""

    column: str
    asked: Sequence[str] | None
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, column: str, asked: Iterable[str] | str | None) -> Names:
        return cls(column, [asked] if isinstance(asked, str) else None if asked is None else list(asked))

    def among(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are asked for, by themselves or by a pattern (`valid_*`)."""
        return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.asked or ())]

    def check(self) -> None:
        """Raise an AnalysisError for a name that was not met, if any were; a pattern may find nothing."""
        for name in self.asked or ():
            if self.seen and name not in self.seen and not {*name} & {*"*?["}:
                raise unknown(f"{self.column}s", name, sorted(self.seen))


def read_tables(
    sources: Sequence[Source], file: str, schema: pa.Schema, problems: list[str], names: Names | None = None
) -> Iterator[pa.Table]:
    """The rows of one file of each source, some sources at a time, in order; texts are coded in one dictionary each.

    Arguments:
        sources: a source without the file has no rows: its run has not come that far.
        file: its name.
        schema: of its columns.
        problems: gains a line for each file that is broken or foreign.
        names: choose the rows; by default all of the chosen runs.
    """

    def some(first: int) -> tuple[pa.Table, list[str]]:
        group, left_out = sources[first : first + FOLDERS], []
        try:
            tables = _read(group, file, schema, names)
        except UNREADABLE:  # one of them; one by one, to find which
            tables = []
            for source in group:
                try:
                    tables += _read([source], file, schema, names)
                except UNREADABLE as error:
                    left_out.append(f"{os.path.join(source.folder, file)}: {reason(error)}; file skipped")
        whole = pa.concat_tables([coded(schema).empty_table(), *tables]).unify_dictionaries()
        return whole if len(group) == 1 else whole.combine_chunks(), left_out

    ahead: deque[Future[tuple[pa.Table, list[str]]]] = deque()  # no further than the memory allows
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(sources), FOLDERS):
            ahead.append(pool.submit(some, first))
            if len(ahead) > THREADS:
                yield _noting(ahead.popleft(), problems)
        while ahead:
            yield _noting(ahead.popleft(), problems)


def open_parquet(path: str, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """A Parquet file whose texts are read as codes: those of many rows are in the file once. Raises one of UNREADABLE.

    One that lacks the columns of `texts` is refused. It is opened once if there are no other texts.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        source = pa.BufferReader(file.read()) if size < SMALL else path

    def opened(texts: Sequence[str]) -> pq.ParquetFile:
        return pq.ParquetFile(source, read_dictionary=texts, pre_buffer=False, page_checksum_verification=True)

    try:
        found = opened(texts)
    except KeyError as error:
        raise ValueError(f"lacks column {error.args[0].decode()}") from error
    columns = [found.schema.column(place) for place in range(len(found.schema))]
    _check_decoded(_encoded_bytes(found.metadata, columns), size)
    as_codes = [each.path for each in columns if each.physical_type == BYTES and each.logical_type.type != "DECIMAL"]
    return found if {*as_codes} == {*texts} else opened(as_codes)


def read_rows(path: str) -> pa.Table:
    """A table with a row per run: options, states. Raises one of UNREADABLE."""
    with open_parquet(path) as file:
        table = file.read()
    check_columns(table.schema, [ID])
    check_no_nulls(table, [ID])
    table.validate(full=True)
    _check_texts(table, path)
    return table


def _check_texts(table: pa.Table, path: str) -> None:
    """Raise a ValueError for a table that is too large without codes."""
    leaves = (leaf for column in table.columns for chunk in column.chunks for leaf in _leaves(chunk))
    _check_decoded(sum(map(_decoded_bytes, leaves)), os.path.getsize(path))


def _check_decoded(decoded: int, size: int) -> None:
    most = DECODED + TIMES * size
    if decoded > most:
        raise ValueError(f"has {decoded:,} bytes when decoded, must have at most {most:,} in a file of {size:,}")


def _encoded_bytes(metadata: pq.FileMetaData, columns: Sequence[Any]) -> int:
    """Of the decompressed pages, and of the values of all columns with codes in the place of texts."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    counts = (
        sum(group.column(place).num_values for group in groups) if column.max_repetition_level else metadata.num_rows
        for place, column in enumerate(columns)
    )
    values = sum(count * max(column.length, 8) for count, column in zip(counts, columns, strict=True))
    return values + sum(group.total_byte_size for group in groups)


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The arrays of values in nested ones."""
    if pa.types.is_struct(array.type):
        for part in array.flatten():
            yield from _leaves(part)
    elif pa.types.is_nested(array.type):
        yield from _leaves(array.values)
    else:
        yield array


def _decoded_bytes(array: pa.Array) -> int:
    if not pa.types.is_dictionary(array.type):
        return int(array.nbytes)
    lengths = pc.binary_length(array.dictionary)
    return pc.sum(lengths.take(array.indices)).as_py() or 0


def check_columns(schema: pa.Schema, needed: Iterable[str]) -> None:
    """Raise a ValueError unless there is a column of each name, and the ids are strings."""
    for name in needed:
        if name not in schema.names:
            raise ValueError(f"lacks column {name}")
    if len({*schema.names}) < len(schema.names):
        raise ValueError("has two columns of the same name")
    kind = schema.field(ID).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"{ID} is {kind}, must be string")  # a cast would not bring leading zeros back


def check_no_nulls(table: pa.Table, names: Iterable[str]) -> None:
    for name in names:
        if table[name].null_count:
            raise ValueError(f"column {name} has nulls")


def _check_ranges(table: pa.Table) -> None:
    """Raise a ValueError for clocks and lags that no run can have: nothing could be drawn over them."""
    for name, (least, most) in RANGES.items():
        if name in table.schema.names and len(table):
            ends = pc.min_max(table[name]).as_py()  # without NaN, unless there is nothing else
            wrong = [end for end in ends.values() if end is not None and (end < least or end > most)]
            if name == "epoch" and pc.any(pc.is_nan(table[name])).as_py():
                wrong.append(math.nan)
            if wrong:
                raise ValueError(f"column {name} has {wrong[0]:g}, must lie in {least}..{most:.0e}")


@functools.cache
def coded(schema: pa.Schema) -> pa.Schema:
    """The schema with dictionaries in the place of texts."""
    return pa.schema([pa.field(kind.name, CODED) if kind.name in _texts(schema) else kind for kind in schema])


def as_text(values: Iterable[str | None]) -> Any:
    """Strings as this version of pandas has them; None is null."""
    return pa.array(list(values), pa.string()).to_pandas().array


def _noting(done: Future[tuple[pa.Table, list[str]]], problems: list[str]) -> pa.Table:
    table, left_out = done.result()
    problems += left_out
    return table


def _read(sources: Sequence[Source], file: str, schema: pa.Schema, names: Names | None) -> list[pa.Table]:
    """The rows of one file of some sources, a table for each of their row groups; raises one of UNREADABLE.

    The first row groups of all are checked at once, then the second: one by one takes a third longer.
    """
    texts, form, found = _texts(schema), coded(schema), []
    with ExitStack() as stack:
        files = []
        for source in sources:
            with suppress(FileNotFoundError):
                files.append((source, stack.enter_context(open_parquet(os.path.join(source.folder, file), texts))))
        for group in range(max((opened.num_row_groups for _, opened in files), default=0)):
            pieces = []
            for source, opened in files:
                if group < opened.num_row_groups:
                    table = opened.read_row_group(group, use_threads=opened.num_row_groups > 1)
                    path = os.path.join(source.folder, file)
                    pieces.append((source, table if table.schema.equals(form) else _conforming(table, schema, path)))
            whole = pa.concat_tables([table for _, table in pieces])
            whole.validate(full=True)
            check_no_nulls(whole, _never_null(schema))
            _check_ranges(whole)
            found += [_asked(source, table, names) for source, table in pieces]
    return found


def _asked(source: Source, table: pa.Table, names: Names | None) -> pa.Table:
    others = {*_distinct(table[ID])}.difference(source.ids)
    if others:
        raise ValueError(f"{ID} {min(others)} is not in {OPTIONS}")
    if len(source.chosen) < len(source.ids):
        table = _only(table, ID, source.chosen)
    if any(stored != shown for stored, shown in source.chosen.items()):
        table = _renamed(table, source.chosen)
    if names is not None and names.asked is not None:
        texts = _distinct(table[names.column])
        names.seen.update(texts)
        table = _only(table, names.column, names.among(texts))
    return table


def _only(table: pa.Table, name: str, texts: Iterable[str]) -> pa.Table:
    return table.filter(pc.is_in(table[name], pa.array(sorted(texts), pa.string())))


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, [names.get(text, text) for text in chunk.dictionary.to_pylist()])
        for chunk in table[ID].chunks
    ]
    return table.set_column(table.schema.get_field_index(ID), ID, pa.chunked_array(chunks, CODED))


def _distinct(column: pa.ChunkedArray) -> list[str]:
    return [text for chunk in column.chunks for text in chunk.dictionary.to_pylist()]


@functools.cache
def _texts(schema: pa.Schema) -> list[str]:
    return [kind.name for kind in schema if pa.types.is_string(kind.type)]


@functools.cache
def _never_null(schema: pa.Schema) -> list[str]:
    return [kind.name for kind in schema if not pa.types.is_floating(kind.type)]


def _conforming(table: pa.Table, schema: pa.Schema, path: str) -> pa.Table:
    """A table with the columns and types of the schema; raises one of UNREADABLE where that would lose something."""
    for place, kind in enumerate(schema):
        if kind.name in OPTIONAL and kind.name not in table.schema.names:
            unknown = pa.array(np.full(len(table), np.nan), kind.type)
            table = table.add_column(min(place, table.num_columns), kind, unknown)
    if table.schema.equals(coded(schema)):  # a run's own, of an earlier version: it takes no longer than others
        return table
    check_columns(table.schema, schema.names)
    table = table.select(schema.names)
    table.validate(full=True)
    _check_texts(table, path)
    columns = []
    for kind in schema:
        column = table[kind.name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        column = column.cast(kind.type)
        columns.append(column.dictionary_encode().cast(CODED) if pa.types.is_string(kind.type) else column)
    return pa.table(columns, schema=coded(schema))
