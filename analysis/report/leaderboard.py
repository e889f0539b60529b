"""The leaderboard: a row per run, by rank."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from atbptt.runs import STATES, duration_text
from atbptt.runs.schema import FINISHED

from ..statistics import ID, format_value, natural, settings
from ..tables import measure_name

NOTED = {"tags": "names given to the run", "notes": "a remark on the run"}  # options, if any run has them
Cell = tuple[str, float | None]  # the text, and the number to sort by; without one, a cell is sorted by its text


def leaderboard(outcomes: pd.DataFrame, options: pd.DataFrame) -> dict[str, Any]:
    """The columns and rows of the leaderboard, in the order of `outcomes`; options that vary get a column."""
    metrics = list(outcomes["metric"].dropna().unique())
    measure = measure_name(metrics[0]) if len(metrics) == 1 else "loss"
    own = options.set_index(ID).reindex(outcomes[ID])
    columns: list[tuple[str, str, list[Cell]]] = [
        (
            "rank",
            "by validation, among finished runs of the same data set and metric under the same conditions",
            _numbers(outcomes["rank"], "{:.0f}"),
        ),
        ("policy", "truncation policy", _values(outcomes["policy"])),
        *((name, f"option {name}", _values(own[name])) for name in settings(options)),
        ("init", "number of the initial parameters", _values(outcomes["init"])),
    ]
    if len(metrics) > 1:
        columns.append(("metric", "what is validated", _values(outcomes["metric"].fillna(""))))
    columns += [
        (f"valid {measure}", "the best validation, lower is better", _numbers(outcomes["valid"], significant)),
        (f"test {measure}", "on the test split, at the best validation", _numbers(outcomes["test"], significant)),
        ("K", "truncation length at the best validation, steps", _numbers(outcomes["K"])),
        ("best epoch", "epoch of the best validation", _numbers(outcomes["epoch"])),
        ("time", "of training and probes, without evaluation", _numbers(outcomes["train_seconds"], duration_text)),
        *_costs(outcomes),
        ("state", "of the run; unless it has finished, with its progress", _states(outcomes)),
        ("id", "experiment_id: the name of the run's directory", _values(outcomes[ID])),
        *((name, meaning, _values(own[name].fillna(""))) for name, meaning in NOTED.items() if name in own),
    ]
    cells = zip(*(own for _, _, own in columns), strict=True)
    states = set(outcomes["state"])
    return {
        "columns": [
            (heading, meaning, heading != "state" and any(number is not None for _, number in own))
            for heading, meaning, own in columns
        ],
        "rows": list(zip(outcomes["policy"], outcomes["state"], cells, strict=True)),
        "policies": sorted(set(outcomes["policy"]), key=natural),
        "states": [state for state in STATES if state in states],
    }


def _costs(outcomes: pd.DataFrame) -> list[tuple[str, str, list[Cell]]]:
    known = (
        ("processor time", "of the whole run, with evaluations", "processor_seconds", duration_text),
        ("memory", "the largest of the run's process, MB", "peak_memory_mb", "{:.0f}"),
        ("GPU memory", "the largest on the GPU, MB", "peak_gpu_memory_mb", "{:.0f}"),
    )
    return [(name, what, _numbers(outcomes[cost], text)) for name, what, cost, text in known if cost in outcomes]


def significant(value: float, digits: int = 5) -> str:
    """A value to so many significant digits, also those that are zero: `1.0100`; empty for NaN."""
    return "" if pd.isna(value) else f"{value:#.{digits}g}".rstrip(".")


def _numbers(values: pd.Series, text: Callable[[float], str] | str = "{:.4g}") -> list[Cell]:
    text = text.format if isinstance(text, str) else text
    return [("", None) if pd.isna(value) else (text(value), float(value)) for value in values]


def _values(values: Iterable[Any]) -> list[Cell]:
    """Values as they are typed; numbers are sorted as numbers."""

    def is_number(value: object) -> bool:
        return isinstance(value, int | float | np.number) and not isinstance(value, bool) and value == value

    return [(format_value(value), float(value) if is_number(value) else None) for value in values]


def _states(outcomes: pd.DataFrame) -> list[Cell]:
    cells: list[Cell] = []
    for state, reached, epochs in zip(outcomes["state"], outcomes["reached"], outcomes["epochs"], strict=True):
        of = "" if pd.isna(epochs) else f" of {epochs:g}"
        done = "" if state == FINISHED or pd.isna(reached) else f", epoch {reached:.3g}{of}"
        cells.append((state + done, float(STATES.index(state))))
    return cells
