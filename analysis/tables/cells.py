"""What a table is before it has a format: columns, cells with text and raw values, notes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from analysis.statistics import Group, format_value

Align = Literal["left", "right"]
MOST_PLACES = 6  # behind the point: beyond, digits are noise of single precision
HEADINGS = {"name": "experiment"}  # the option `name` says nothing in a table


@dataclass(frozen=True)
class Column:
    """A heading, how cells are aligned below it, and the names of the raw values in each cell."""

    heading: str
    align: Align
    names: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """What a reader sees, and the numbers that it is made of, one for each of the column's names; None is absent."""

    text: str
    values: tuple[object, ...]
    best: bool = False  # of its column, to be set in bold

    @property
    def value(self) -> object:
        """The first raw value: what to sort by."""
        return self.values[0]


@dataclass(frozen=True)
class Table:
    """A table in no format yet.

    Attributes:
        name: a short word for files and labels, `published_ptb_ptb_ppl`.
        title: one line.
        columns, rows: a row has a cell for each column.
        notes: a sentence each, to be read with the table.
        keys: what all rows have in common, `experiment`, `dataset` and `metric`: the first columns of a CSV file.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    keys: Mapping[str, str] = field(default_factory=dict)

    def shortened(self, count: int) -> Table:
        """The first `count` rows, with a note of how many more there are."""
        more = len(self.rows) - count
        if more <= 0:
            return self
        return replace(self, rows=self.rows[:count], notes=[f"and {more} more rows", *self.notes])


def mean_sd(mean: float, sd: float, *_: float) -> str:
    """`1.036 (0.004)`: four significant digits of the mean, or up to the first of the sd; blank for NaN."""
    if math.isnan(mean):
        return ""
    style = _style(mean, sd)
    return f"{mean:{style}}" + ("" if math.isnan(sd) else f" ({sd:{style}})")


def interval(low: float, high: float, mean: float, sd: float) -> str:
    """`[1.032, 1.040]`: both ends to the same place as the mean in `mean_sd`; blank for NaN."""
    style = _style(mean, sd)
    return "" if math.isnan(low) else f"[{low:{style}}, {high:{style}}]"


def signed(mean: float, sd: float, low: float, high: float) -> tuple[str, str]:
    """A difference as `+0.012 (0.004)` and `[+0.005, +0.019]`: two significant digits of the sd, four of the mean."""
    if math.isnan(mean):
        return "", ""
    sizes = [(places, size) for places, size in ((1, sd), (3, abs(mean))) if 0 < size < math.inf]
    digits = min((places - math.floor(math.log10(size)) for places, size in sizes), default=3)
    style = f".{max(digits, 0)}f" if digits <= 8 else ".1e"
    first = f"{mean:+{style}}" + ("" if math.isnan(sd) else f" ({sd:{style}})")
    return first, "" if math.isnan(low) else f"[{low:+{style}}, {high:+{style}}]"


def amount(mean: float, sd: float) -> str:
    """`25.5 (3.5)`, `2550 (354)`: three significant digits, or all before the point; blank for NaN."""
    if math.isnan(mean):
        return ""
    size = math.floor(math.log10(abs(mean))) if mean else 0
    style = f".{max(2 - size, 0)}f"
    return f"{mean:{style}}" + ("" if math.isnan(sd) else f" ({sd:{style}})")


def short(value: float) -> str:
    """`12.5`; blank for NaN."""
    return "" if math.isnan(value) else f"{value:.1f}"


def measure_name(metric: str) -> str:
    """`PPL` for `valid_ppl`, `event error` for `test_event_error`."""
    measure = metric.removeprefix("valid_").removeprefix("test_")
    return measure.upper() if measure in ("ppl", "nll") else measure.replace("_", " ").replace("rmse", "RMSE")


def _style(mean: float, sd: float) -> str:
    if not math.isfinite(mean):
        return ".3f"
    size = math.floor(math.log10(abs(mean))) if mean else 0
    first = -math.floor(math.log10(sd)) if 0 < sd < math.inf else 0
    return f".{max(3 - size, min(first, MOST_PLACES), 0)}f" if -4 <= size <= 5 else ".3e"


def column(
    rows: pd.DataFrame,
    heading: str,
    names: Sequence[str],
    text: Callable[..., str],
    align: Align = "right",
    best: bool = False,
) -> tuple[Column, list[Cell]]:
    """A column of a table with its cell in each row.

    Arguments:
        rows: a row per row of the table.
        heading: written above.
        names: of the columns of `rows` that a cell is made of.
        text: of a cell, from these values in this order.
        align: to which side.
        best: whether the lowest of the first values is marked, if there is more than one.
    """
    values = list(zip(*(rows[name].tolist() for name in names), strict=True))
    lowest = rows[names[0]].min() if best and len(rows) > 1 else None
    return Column(heading, align, tuple(names)), [
        Cell(text(*row), tuple(None if pd.isna(value) else value for value in row), row[0] == lowest) for row in values
    ]


def setting_columns(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[Column, list[Cell]]]:
    """A column for the policy and each option that tells settings apart: numbers to the right."""
    return [
        column(
            rows,
            HEADINGS.get(name, name),
            [name],
            format_value,
            "right" if pd.api.types.is_numeric_dtype(rows[name]) else "left",
        )
        for name in names
    ]


def assembled(
    group: Group, suffix: str, title: str, parts: Sequence[tuple[Column, list[Cell]]], notes: Sequence[str] = ()
) -> Table:
    """The table of columns as from `column`, for the runs of a group."""
    rows = list(zip(*(cells for _, cells in parts), strict=True))
    keys = {"experiment": group.experiment, "dataset": group.dataset, "metric": group.metric}
    return Table(group.name + suffix, f"{whose(group)}: {title}", [head for head, _ in parts], rows, notes, keys)


def moments(name: str) -> list[str]:
    """The columns that `summarize` has for a value: mean, sd, and the ends of the interval."""
    return [f"{name}_{part}" for part in ("mean", "sd", "low", "high")]


def whose(group: Group) -> str:
    """`published_ptb, dataset ptb`: how a title begins."""
    experiment = "" if group.experiment in ("unknown", group.dataset) else f"{group.experiment}, "
    return f"{experiment}dataset {group.dataset}"
