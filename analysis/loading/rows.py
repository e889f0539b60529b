"""Rows of long tables as arrays, one piece a run: gathered in order, and made columns of a frame."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from atbptt.errors import unknown
from atbptt.runs.schema import ID as ID

Choice = Mapping[str, Iterable[str] | str | None]  # column of text -> names and patterns of the rows wanted; None: all


@dataclass
class Rows:
    """Rows of a long table.

    Attributes:
        runs: by piece, the place of the run that its rows belong to.
        counts: by piece, its number of rows.
        columns: by name, without the id; of a text the codes.
        texts: by name, what the codes of a column say.
        seen: by name, every text that was met, wanted or not.
        settled: whether texts are in alphabetical order, and each in use.
    """

    runs: np.ndarray
    counts: np.ndarray
    columns: dict[str, np.ndarray]
    texts: dict[str, Sequence[str]]
    seen: dict[str, set[str]] = field(default_factory=dict)
    settled: bool = False

    def __len__(self) -> int:
        return int(self.counts.sum())


def to_rows(table: pa.Table, runs: np.ndarray, counts: np.ndarray) -> Rows:
    """The rows of a table, its texts coded in one dictionary each, whose pieces belong to these runs."""
    columns: dict[str, np.ndarray] = {}
    texts: dict[str, Sequence[str]] = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if name == ID:
            continue
        if pa.types.is_dictionary(column.type):
            texts[name], columns[name] = decoded(column)
        else:
            columns[name] = column.to_numpy()
    there = counts > 0
    return Rows(runs[there], counts[there], columns, texts)


def decoded(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The texts of a coded column, whose chunks have one dictionary, and the codes."""
    texts = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    return texts, pa.chunked_array([chunk.indices for chunk in column.chunks], pa.int32()).to_numpy()


def narrowed(rows: Rows, wanted: Choice, chosen: np.ndarray | None = None) -> Rows:
    """Those of the chosen runs (by run; None: of all) with the texts that are asked for."""
    kept = np.ones(len(rows), bool) if chosen is None else np.repeat(chosen[rows.runs], rows.counts)
    seen: dict[str, set[str]] = {}
    for name, asked in wanted.items():
        if asked is None:
            continue
        texts, codes = rows.texts[name], rows.columns[name]
        used = np.bincount(codes[kept], minlength=len(texts)) > 0
        seen[name] = {text for text, one in zip(texts, used, strict=True) if one}
        found = wanted_texts(texts, asked)
        kept &= np.array([text in found for text in texts], bool)[codes]
    if kept.all():
        return Rows(rows.runs, rows.counts, rows.columns, rows.texts, seen)
    # Each of these runs has rows: reduceat knows no empty piece.
    counts = np.add.reduceat(kept, np.cumsum(rows.counts) - rows.counts, dtype=np.int64)
    left = counts > 0
    columns = {name: column[kept] for name, column in rows.columns.items()}
    return Rows(rows.runs[left], counts[left], columns, rows.texts, seen)


def gather(parts: Iterable[Rows], schema: pa.Schema) -> Rows:
    """All rows, in the order of the runs; the texts of a column in alphabetical order.

    Each part is copied to where it is to stay before the next is asked for: together they would take as much again.
    """
    parts = iter(parts)
    first, second = next(parts, None), next(parts, None)
    if first is not None and second is None and first.settled:
        return _sorted(first)
    numbers = {name: _Growing(kind.to_pandas_dtype()) for name, kind in zip(schema.names, schema.types, strict=True)}
    del numbers[ID]
    places: dict[str, dict[str, int]] = {}
    seen: dict[str, set[str]] = {}
    runs, counts = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for part in itertools.chain([part for part in (first, second) if part is not None], parts):
        runs.append(part.runs)
        counts.append(part.counts)
        for name, names in part.seen.items():
            seen.setdefault(name, set()).update(names)
        for name, texts in part.texts.items():
            part.columns[name] = _recoded(part.columns[name], texts, places.setdefault(name, {}))
        for name, column in part.columns.items():
            numbers[name].append(column)
    columns = {name: growing.done() for name, growing in numbers.items()}
    texts_of: dict[str, Sequence[str]] = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name == ID or not pa.types.is_string(kind):
            continue
        known = places.get(name, {})
        texts_of[name] = sorted(known)
        new = np.argsort(np.argsort(list(known))).astype(np.min_scalar_type(-len(known) - 1))
        columns[name] = new[columns[name]]
    return _sorted(Rows(np.concatenate(runs), np.concatenate(counts), columns, texts_of, seen))


class _Growing:
    """An array that grows at its end, where it lies if there is room."""

    def __init__(self, kind: Any) -> None:
        self.array = np.empty(1 << 16, np.int32 if kind is np.object_ else kind)
        self.length = 0

    def append(self, more: np.ndarray) -> None:
        end = self.length + len(more)
        if end > len(self.array):
            self.array.resize(max(end, len(self.array) * 5 // 4), refcheck=False)
        self.array[self.length : end] = more
        self.length = end

    def done(self) -> np.ndarray:
        self.array.resize(self.length, refcheck=False)
        return self.array


def _recoded(codes: np.ndarray, texts: Sequence[str], places: dict[str, int]) -> np.ndarray:
    """The codes by these places, which gain those texts that have none yet."""
    new = np.zeros(len(texts), np.int32)
    # Not those that no row has: a filter leaves them in its dictionary.
    for code in np.flatnonzero(np.bincount(codes, minlength=len(texts))).tolist():
        new[code] = places.setdefault(texts[code], len(places))
    return new[codes]


def _sorted(rows: Rows) -> Rows:
    if not (np.diff(rows.runs) < 0).any():
        return rows
    order = np.argsort(np.repeat(rows.runs, rows.counts), kind="stable")
    by_run = np.argsort(rows.runs, kind="stable")
    columns = {name: column[order] for name, column in rows.columns.items()}
    return Rows(rows.runs[by_run], rows.counts[by_run], columns, rows.texts, rows.seen)


def to_columns(rows: Rows, ids: Sequence[str], schema: pa.Schema) -> dict[str, Any]:
    """The columns of a frame: the id a string, other texts categories."""
    run_of_row = pa.array(np.repeat(rows.runs.astype(np.int32), rows.counts))
    whole: dict[str, Any] = {ID: pa.array(ids, pa.large_string()).take(run_of_row).to_pandas()}
    for name in schema.names:
        if name in rows.texts:
            categories = text_array(rows.texts[name])
            whole[name] = pd.Categorical.from_codes(rows.columns.pop(name), categories, validate=False)
        elif name != ID:
            whole[name] = rows.columns.pop(name)
    return whole


def wanted_texts(names: Iterable[str], asked: Iterable[str] | str | None) -> set[str]:
    """Those of the names that are asked for, by themselves or by a pattern (`valid_*`)."""
    if asked is None:
        return {*names}
    patterns = [asked] if isinstance(asked, str) else list(asked)
    return {name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}


def check_wanted(what: str, seen: set[str], asked: Iterable[str] | str | None) -> None:
    """Raise an AnalysisError for a name that no run has, if runs have any; a pattern may find nothing."""
    for name in [asked] if isinstance(asked, str) else asked or []:
        if seen and name not in seen and not {*name} & {*"*?["}:
            raise unknown(what, name, sorted(seen))


def text_array(values: Iterable[str | None]) -> Any:
    """Strings as this version of pandas has them; None is null."""
    return pa.array(list(values), pa.string()).to_pandas().array
