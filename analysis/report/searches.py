"""The trials of the searches: a table each."""

from collections.abc import Sequence
from typing import Any

from ..loading import Search
from ..statistics import format_value
from ..tables import measure_name
from .leaderboard import significant


def searches(found: Sequence[Search]) -> list[dict[str, Any]]:
    """The headings and rows of each search, with the ids of each trial's runs, and what it has come to."""
    return [_search(each) for each in found]


def _search(search: Search) -> dict[str, Any]:
    record = search.record
    measure, best = f"valid {measure_name(record.metric)}", record.best
    over = len(record.over)
    text = f"{over} of {max(record.n_trials, over)} trials, {record.failed} failed"
    if best is not None and best.value is not None:
        text += f"; the best is trial {best.number} with {measure} {significant(best.value)}"
    rows = []
    for trial, ids in zip(record.trials, search.ids, strict=True):
        value = "" if trial.value is None else significant(trial.value)
        state = trial.state + (f": {trial.reason}" if trial.reason else "")
        options = [format_value(trial.params.get(name, "")) for name in record.space]
        rows.append({"cells": [str(trial.number), value, *options, state], "ids": ids, "best": trial is best})
    return {"name": search.name, "text": text, "headings": ["trial", measure, *record.space, "state"], "rows": rows}
