"""The searches that some runs belong to, from the records in their output folders."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from atbptt.errors import line_of
from atbptt.monitor import sweeps_with
from atbptt.runs import SearchRecord, read_search, reason
from atbptt.runs.schema import ID, TRIALS

from .finding import Run

TYPES = {"search": "string", "trial": "int64", "state": "string", "value": "float64", "reason": "string", ID: "string"}


@dataclass(frozen=True)
class Search:
    """A search, with the `experiment_id` of each run of a trial; None for one that is not among the runs read."""

    name: str  # of its folder below `.sweeps`
    record: SearchRecord
    ids: tuple[tuple[str | None, ...], ...]  # by trial


def find_searches(runs: Sequence[Run], problems: list[str]) -> list[Search]:
    """The searches of some runs, by folder; `problems` gains records that cannot be read."""
    ids = {os.path.realpath(run.folder.path): run.id for run in runs if not run.folder.compacted}
    outputs = dict.fromkeys(Path(path).parents[1] for path in ids)
    found = []
    for folder in [folder for output in outputs for folder in sweeps_with(TRIALS, str(output), problems)]:
        file = Path(folder, TRIALS)
        try:
            record = read_search(file.parent)
        except (OSError, ValueError) as error:
            problems.append(f"{line_of(str(file))}: {reason(error)}; search left out")
            continue
        places = [[os.path.realpath(file.parent / run) for run in trial.runs] for trial in record.trials]
        if not ids.keys().isdisjoint(place for own in places for place in own):
            by_trial = tuple(tuple(ids.get(place) for place in own) for own in places)
            found.append(Search(file.parent.name, record, by_trial))
    return found


def trials_frame(searches: Sequence[Search]) -> pd.DataFrame:
    """The frame of `load_trials`; its first columns do not depend on which searches there are."""
    rows = [row for search in searches for row in _rows(search)]
    options = sorted({name for row in rows for name in row} - TYPES.keys())
    return pd.DataFrame(rows, columns=[*TYPES, *options]).astype(TYPES)


def _rows(search: Search) -> Iterator[dict[str, Any]]:
    for trial, ids in zip(search.record.trials, search.ids, strict=True):
        told = {"state": trial.state, "value": trial.value, "reason": trial.reason}
        for run in ids or (None,):
            yield {**trial.params, "search": search.name, "trial": trial.number, **told, ID: run}
