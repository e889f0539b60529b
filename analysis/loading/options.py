"""The options of runs, each distinct value held once: read, chosen by, spread over runs or over rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.loading.reading import check_id, open_parquet
from analysis.loading.rows import ID, text_array
from atbptt.errors import unknown
from atbptt.runs.schema import OPTIONS_JSON

Where = Mapping[str, object]  # option -> its value, or a collection of values
Spread = Callable[[np.ndarray], np.ndarray]  # an array over runs -> an array over rows
PLAIN = frozenset((str, int, float, bool, type(None)))
MAGIC = b"PAR1"  # begins and ends a Parquet file
KEY = b"\x18" + bytes([len(OPTIONS_JSON)]) + OPTIONS_JSON + b"\x18"
INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class Column:
    """One option of every run.

    Attributes:
        distinct: its values, each once, none of them None.
        codes: by run, the place of its value among them; -1 where a run has no such option.
    """

    distinct: Sequence[Any]
    codes: np.ndarray

    @property
    def kind(self) -> str:
        """`boolean`, `Int64`, `float64`, or `text`: what holds every value, whatever other runs there are."""
        types = {type(value) for value in self.distinct}
        if types == {bool}:
            return "boolean"
        if types == {int} and all(INT64.min <= value <= INT64.max for value in self.distinct):
            return "Int64"
        return "float64" if types and types <= {int, float} else "text"


class Options:
    """The options of some runs, by name in the order of first appearance.

    Arguments:
        columns: of the same runs.
        runs: how many.
    """

    def __init__(self, columns: Mapping[str, Column], runs: int) -> None:
        self.columns = dict(columns)
        self.runs = runs

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Options:
        """From one mapping a run."""
        names = dict.fromkeys(name for keys in dict.fromkeys(map(tuple, rows)) for name in keys)
        columns = {name: _encode([row.get(name) for row in rows]) for name in names}
        return cls({name: column for name, column in columns.items() if column.distinct}, len(rows))

    @classmethod
    def concat(cls, parts: Sequence[Options]) -> Options:
        """Those of several groups of runs, one after the other."""
        if len(parts) == 1:
            return parts[0]
        names = dict.fromkeys(name for part in parts for name in part.columns)
        columns = {name: _joined([(part.columns.get(name), part.runs) for part in parts]) for name in names}
        return cls(columns, sum(part.runs for part in parts))

    def select(self, runs: np.ndarray) -> Options:
        """Those of the runs at these places; options that none of them has go."""
        if len(runs) == self.runs and (runs == np.arange(self.runs)).all():
            return self
        columns = {}
        for name, column in self.columns.items():
            codes = column.codes[runs]
            used, inverse = np.unique(codes, return_inverse=True)
            absent = int(len(used) > 0 and used[0] < 0)
            if len(used) > absent:
                columns[name] = Column(
                    [column.distinct[code] for code in used[absent:]], (inverse - absent).astype(np.int32)
                )
        return Options(columns, len(runs))

    def matching(self, where: Where) -> np.ndarray:
        """By run, whether it has the options asked for (AnalysisError for an option that no run has)."""
        chosen = np.ones(self.runs, bool)
        for name, asked in where.items():
            if name not in self.columns:
                raise unknown("where", name, list(self.columns))
            column = self.columns[name]
            choices = asked_for(asked)
            as_text = column.kind == "text"
            found = [value in choices or (as_text and _text(value) in choices) for value in column.distinct]
            chosen &= np.array([*found, None in choices])[column.codes]
        return chosen

    def by_run(self) -> pd.DataFrame:
        """A row per run; texts are strings."""
        return pd.DataFrame(
            {
                name: text_array([None if code < 0 else _text(column.distinct[code]) for code in column.codes])
                if column.kind == "text"
                else _array(column, lambda array: array)
                for name, column in self.columns.items()
            },
            index=pd.RangeIndex(self.runs),
        )

    def by_row(self, runs: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
        """A column per option but the id, over rows of which each of these runs has so many; texts are categories.

        What is the same in all runs is one number in memory, whatever the number of rows.
        """

        def spread(array: np.ndarray) -> np.ndarray:
            if len(np.unique(array)) == 1:  # NaN too is one
                return np.broadcast_to(array[0], counts.sum())
            return np.repeat(array[runs], counts)

        return {name: _array(column, spread) for name, column in self.columns.items() if name != ID}


def asked_for(asked: object) -> Iterable[object]:
    """The values that a condition of `where` allows, as something to look one up in."""
    choices = list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str | bytes) else [asked]
    try:
        return set(choices)
    except TypeError:  # lists, as they are never options, are equal to none
        return choices


def read_options(path: str) -> dict[str, Any]:
    """The options of one run by name, `experiment_id` among them; a list is its JSON. Raises one of UNREADABLE."""
    with open(path, "rb") as file:
        content = file.read()
    row = _row_of(_stored_json(content))
    if row is None:
        row = _decoded(content)
    if PLAIN.issuperset(map(type, row.values())):
        return row
    # Lists have no hash: nothing could be grouped by them.
    return {name: value if type(value) in PLAIN else json.dumps(value, default=str) for name, value in row.items()}


def _stored_json(content: bytes) -> bytes | None:
    """The JSON in the key-value metadata of a Parquet file; None where there is none, or the file is broken.

    Looked for in the footer's bytes: to have the footer decoded, with 50 columns, takes ten times as long as all else.
    Key and value are strings in Thrift's compact protocol: 0x18, the length with 7 bits a byte, the text.
    """
    size = int.from_bytes(content[-8:-4], "little")
    if content[:4] != MAGIC or content[-4:] != MAGIC or size > len(content) - 12:
        return None
    at = content.rfind(KEY, len(content) - 8 - size)
    if at < 0:
        return None
    at += len(KEY)
    length = shift = 0
    while content[at] & 0x80:
        length |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    length |= content[at] << shift
    return content[at + 1 : at + 1 + length]


def _row_of(stored: bytes | None) -> dict[str, Any] | None:
    try:
        row = None if stored is None else json.loads(stored)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get(ID), str) else None


def _decoded(content: bytes) -> dict[str, Any]:
    with open_parquet(content) as file:
        stored = (file.metadata.metadata or {}).get(OPTIONS_JSON)
        if stored is None:
            return _only_row(file.read())
    row = _row_of(stored)
    if row is None:
        raise ValueError(f"its JSON is no row with a text as {ID}")
    return row


def _only_row(table: pa.Table) -> dict[str, Any]:
    names = check_id(table.schema)
    if len(names) < len(table.schema.names):
        raise ValueError("has two columns of the same name")
    if table.num_rows != 1:
        raise ValueError(f"has {table.num_rows} rows, must have 1")
    table.validate(full=True)
    if table[ID].null_count:
        raise ValueError(f"column {ID} has nulls")
    row: dict[str, Any] = table.to_pylist()[0]
    return row


def _encode(values: list[Any]) -> Column:
    if len(values) > 0 and len({*map(type, values)}) == 1 and values.count(values[0]) == len(values):
        constant = values[0] is not None
        return Column(values[:1] if constant else [], np.full(len(values), constant - 1, np.int32))
    keys = list(zip(map(type, values), values, strict=True))  # 1, 1.0 and True are equal
    distinct = [key for key in dict.fromkeys(keys) if key[1] is not None]
    places = {key: place for place, key in enumerate(distinct)} | {(type(None), None): -1}
    return Column([value for _, value in distinct], np.array([places[key] for key in keys], np.int32))


def _joined(parts: Sequence[tuple[Column | None, int]]) -> Column:
    distinct = _encode([value for column, _ in parts if column for value in column.distinct])
    codes, taken = [], 0
    for column, runs in parts:
        if column is None:
            codes.append(np.full(runs, -1, np.int32))
            continue
        places = np.append(distinct.codes[taken : taken + len(column.distinct)], np.int32(-1))  # code -1 is the last
        codes.append(places[column.codes])
        taken += len(column.distinct)
    return Column(distinct.distinct, np.concatenate(codes))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _array(column: Column, spread: Spread) -> Any:
    absent = column.codes < 0
    if column.kind == "text":
        categories, places = np.unique([_text(value) for value in column.distinct], return_inverse=True)
        kind = np.min_scalar_type(-len(categories) - 1)
        codes = np.append(places, -1).astype(kind)[column.codes]
        return pd.Categorical.from_codes(spread(codes), text_array(categories), validate=False)
    filler = {"boolean": False, "Int64": 0, "float64": np.nan}[column.kind]
    kind = {"boolean": np.dtype(bool), "Int64": np.dtype("int64"), "float64": np.dtype("float64")}[column.kind]
    data = np.array([*column.distinct, filler], kind)[column.codes]
    if column.kind == "float64":
        return spread(data)
    masked = pd.arrays.BooleanArray if column.kind == "boolean" else pd.arrays.IntegerArray
    if len(column.distinct) == 1:  # what stands where there is none does not matter
        data = np.full(len(data), column.distinct[0], kind)
    return masked(spread(data), spread(absent))
