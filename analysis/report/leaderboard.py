"""The leaderboard: a row a run, by rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.statistics import ID, format_value, natural, settings
from analysis.tables import measure_name
from atbptt.runs import STATES, duration_text
from atbptt.runs.schema import FINISHED


@dataclass(frozen=True)
class Column:
    """A column: its heading, what that means, and whether it holds numbers."""

    heading: str
    meaning: str
    numeric: bool


@dataclass(frozen=True)
class Cell:
    """What is shown; it is sorted by the number if there is one, else by the text."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Row:
    """A run, by column; `policy` and `state` are what it is filtered by."""

    cells: list[Cell]
    policy: str
    state: str


@dataclass(frozen=True)
class Leaderboard:
    """Columns and rows, and what there is to choose from."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    policies: tuple[str, ...]
    states: tuple[str, ...]


def leaderboard(outcomes: pd.DataFrame, options: pd.DataFrame) -> Leaderboard:
    """A row per run, by rank.

    Arguments:
        outcomes: as from `outcomes`.
        options: a row per run, as from `load_options`; those that vary get a column.
    """
    varying = settings(options)
    metrics = list(outcomes["metric"].dropna().unique())
    measure = measure_name(metrics[0]) if len(metrics) == 1 else "loss"
    own = options.set_index(ID).reindex(outcomes[ID])
    columns: list[tuple[str, str, list[Cell]]] = [
        ("rank", "by validation, among runs of the same data set and metric", _numbers(outcomes["rank"], "{:.0f}")),
        ("policy", "truncation policy", _texts(outcomes["policy"])),
        *((name, f"option {name}", [value_cell(value) for value in own[name]]) for name in varying),
        ("init", "number of the initial parameters", [value_cell(value) for value in outcomes["init"]]),
    ]
    if len(metrics) > 1:
        columns.append(("metric", "what is validated", _texts(outcomes["metric"].fillna(""))))
    columns += [
        (f"valid {measure}", "the best validation, lower is better", _measured(outcomes["valid"])),
        (f"test {measure}", "on the test split, at the best validation", _measured(outcomes["test"])),
        ("K", "truncation length at the best validation, steps", _numbers(outcomes["K"])),
        ("best epoch", "epoch of the best validation", _numbers(outcomes["epoch"])),
        ("time", "of training and the policy's probes, without evaluation", _times(outcomes["train_seconds"])),
        ("state", "what the run does; and unless it has finished, how far it is", _states(outcomes)),
        ("id", "experiment_id: the name of the run's directory", _texts(outcomes[ID])),
    ]
    rows = tuple(
        Row(cells, policy, state)
        for *cells, policy, state in zip(
            *(cells for _, _, cells in columns), outcomes["policy"], outcomes["state"], strict=True
        )
    )
    states = {row.state for row in rows}
    return Leaderboard(
        tuple(
            Column(heading, meaning, any(cell.number is not None for cell in cells) and heading != "state")
            for heading, meaning, cells in columns
        ),
        rows,
        tuple(sorted({row.policy for row in rows}, key=natural)),
        tuple(state for state in STATES if state in states),
    )


def significant(value: float, digits: int = 5) -> str:
    """A value to so many significant digits, also those that are zero: `1.0100`; blank for NaN."""
    return "" if pd.isna(value) else f"{value:#.{digits}g}".rstrip(".")


def value_cell(value: object) -> Cell:
    """The value of an option; numbers are sorted as numbers."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool) and value == value
    return Cell(format_value(value), float(value) if is_number else None)  # type: ignore[arg-type]


def listed(items: Iterable[str], shown: int = 6) -> str:
    """`a, b, c and 4 more`."""
    items = list(items)
    more = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {more} more" if more > 0 else "")


def _texts(values: pd.Series) -> list[Cell]:
    return [Cell(str(value)) for value in values]


def _numbers(values: pd.Series, style: str = "{:.4g}") -> list[Cell]:
    return [Cell("") if pd.isna(value) else Cell(style.format(value), float(value)) for value in values]


def _measured(values: pd.Series) -> list[Cell]:
    return [Cell("") if pd.isna(value) else Cell(significant(value), float(value)) for value in values]


def _times(values: pd.Series) -> list[Cell]:
    return [Cell("") if pd.isna(value) else Cell(duration_text(value), float(value)) for value in values]


def _states(outcomes: pd.DataFrame) -> list[Cell]:
    cells = []
    for state, reached, epochs in zip(outcomes["state"], outcomes["reached"], outcomes["epochs"], strict=True):
        of = "" if pd.isna(epochs) else f" of {epochs:g}"
        done = "" if state == FINISHED or pd.isna(reached) else f", epoch {reached:.3g}{of}"
        cells.append(Cell(state + done, float(STATES.index(state))))
    return cells
