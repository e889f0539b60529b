"""The options of runs: read, chosen by, made columns of a frame."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from atbptt.earlier import filled_in
from atbptt.errors import AnalysisError, show, unknown
from atbptt.runs.schema import ID, OPTIONS_JSON
from atbptt.system import is_file_name, read_file

from .reading import as_text, read_rows

Row = dict[str, Any]  # option -> value, without those that the run does not have
Where = Mapping[str, object]  # option -> its value, or a collection of values
NUMBERS = ("lr", "init", "seed", "epochs", "seconds", "patience", "evaluate_every")  # options of every run of ours
PLAIN = (str, int, float, bool)
INT64 = range(-(2**63), 2**63)
MAGIC = b"PAR1"  # ends a Parquet file
NOTES, TAGS = "notes", "tags"  # a remark in words; short names, separated by commas
KEY = b"\x18" + bytes([len(OPTIONS_JSON)]) + OPTIONS_JSON  # as Parquet stores it, a string with its length


def read_options(path: str) -> list[Row]:
    """The options of the runs in one file, `experiment_id` among them; a list is its JSON. Raises one of UNREADABLE."""
    row = _stored_row(read_file(path))
    if row is not None:
        return [filled_in(_plain(row))]
    return [filled_in(_plain(row)) for row in read_rows(path).to_pylist()]


def matching(rows: Sequence[Row], where: Where) -> list[int]:
    """The places of the rows with the options asked for.

    Raises:
        AnalysisError: an option that no run has.
    """
    chosen: Iterable[int] = range(len(rows))
    for name, asked in where.items():
        values = [row.get(name) for row in rows]
        choices = values_asked(asked)
        if name in (NOTES, TAGS):  # of which there need not be any
            texts = {_text(choice).lower() for choice in choices - {None}}
            chosen = [place for place in chosen if _noted(name, values[place], texts) or values[place] in choices]
            continue
        if values.count(None) == len(values):
            raise unknown("where", name, option_names(rows))
        if kind_of(values) == "text":  # a number among texts is found as either
            choices |= {_text(value) for value in choices if value is not None}
        found = {value for value in {*values} if value in choices or (value is not None and _text(value) in choices)}
        chosen = [place for place in chosen if values[place] in found]
    return list(chosen)


def _noted(name: str, value: Any, texts: set[str]) -> bool:
    """Whether notes contain one of the texts, or one of them is a tag; in lower case."""
    if value is None:
        return False
    own = _text(value).lower()
    return not texts.isdisjoint(own.split(", ")) if name == TAGS else any(text in own for text in texts)


def asked_on_command_line(conditions: Sequence[str]) -> dict[str, set[object]]:
    """The `Where` of conditions like `truncation=adaptive`, `lr=1,10`, `clip_norm=null` (AnalysisError)."""
    where: dict[str, set[object]] = {}
    for condition in conditions:
        name, equals, text = condition.partition("=")
        if not (name and equals):
            raise AnalysisError(f"--where (={condition}) must be OPTION=VALUE, as lr=1,10 or tags=night")
        for part in {text, *([] if name == NOTES else text.split(","))}:
            where.setdefault(name, set()).update({part, _number(part)} if part != "null" else {None})
    return where


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def values_asked(asked: object) -> set[object]:
    """The values that a condition of `where` allows."""
    values = asked if isinstance(asked, Iterable) and not isinstance(asked, str | bytes) else [asked]
    return {_text(value) if isinstance(value, list) else value for value in values}


def option_names(rows: Sequence[Row]) -> list[str]:
    """All options, in the order of the first run that has each."""
    return list(dict.fromkeys(name for names in dict.fromkeys(map(tuple, rows)) for name in names))


def by_run(rows: Sequence[Row]) -> pd.DataFrame:
    """A row per run; texts are strings."""
    columns = {name: _typed([row.get(name) for row in rows]) for name in option_names(rows)}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


def by_row(rows: Sequence[Row], runs: np.ndarray) -> dict[str, Any]:
    """A column per option but the id, over rows of these runs (their places); texts are categories.

    An option that is the same in all runs is one number in memory, whatever the number of rows.
    """

    def spread(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array[0], len(runs)) if len(np.unique(array)) == 1 else array[runs]

    columns: dict[str, Any] = {}
    for name, column in by_run(rows).items():
        if name == ID:
            continue
        array = column.array
        if column.dtype == float:
            columns[str(name)] = spread(array.to_numpy())
        elif isinstance(array, pd.arrays.IntegerArray | pd.arrays.BooleanArray):
            # Filled with a value that occurs, so that one of a kind stays one.
            values = column.dropna().to_numpy()
            data = column.fillna(values[0]).to_numpy(values.dtype)
            columns[str(name)] = type(array)(spread(data), spread(array.isna()))
        else:
            coded = pd.Categorical(array)
            codes = spread(coded.codes)
            columns[str(name)] = pd.Categorical.from_codes(codes, coded.categories, validate=False)
    return columns


def kind_of(values: Iterable[Any]) -> str:
    """`boolean`, `Int64`, `float64` or `text`: what holds every value, whatever other runs there are."""
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return "boolean"
    if types == {int} and all(value in INT64 for value in values if value is not None):
        return "Int64"
    return "float64" if types <= {int, float} else "text"


def _typed(values: list[Any]) -> Any:
    kind = kind_of(values)
    if kind == "text":
        return as_text(None if value is None else _text(value) for value in values)
    return pd.Series(values, dtype=kind).array


def _stored_row(content: bytes) -> Row | None:
    """The row that a run stores as JSON too, in the metadata at the end of its file; None where there is none.

    Arrow takes five times as long to decode 50 columns, or the metadata that describe them.
    """
    start = content.find(b"{", content.rfind(KEY))
    try:
        row, _ = json.JSONDecoder().raw_decode(content[start:].decode("ascii", errors="replace"))
    except (ValueError, RecursionError):
        return None
    whole = content.endswith(MAGIC) and isinstance(row, dict) and isinstance(row.get(ID), str)
    return row if whole else None


def _plain(row: Row) -> Row:
    """A row without nulls; lists as JSON, since they have no hash: nothing could be grouped by them.

    A ValueError for an id or a name that could lead out of a folder, a number or a text that is none, or a text that no
    table takes.
    """
    for name in (ID, "name"):
        value = row.get(name)
        if not (is_file_name(value) or (value is None and name != ID)):
            raise ValueError(f"{name} (={show(value)}) must be a name without /, \\ and control characters")
    for name in NUMBERS:
        value = row.get(name, 0)
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f"{name} (={show(value)}) must be a number")
    for name in (NOTES, TAGS):
        value = row.get(name, "")
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} (={show(value)}) must be a text")
    for part in (*row, *row.values()):
        if isinstance(part, str):
            part.encode()
    return {
        name: value if isinstance(value, PLAIN) else json.dumps(value, default=str)
        for name, value in row.items()
        if value is not None
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
