"""What must be said below results: runs that failed, are not finished, or are left out, and where the files are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.statistics import ID
from atbptt.runs.schema import FAILED, FINISHED

SHOWN_IDS = 6  # the rest is counted


def remarks(frame: pd.DataFrame, status: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    """What a reader of the results must know: runs that failed, are not finished, or are left out.

    Arguments:
        frame: as from `load`.
        status: as from `load_status`.
        best: as from `best_validation`.

    Returns:
        A line for each of these that there is.
    """
    failed = status[ID][status["state"] == FAILED]
    unfinished = status[ID][~status["state"].isin([FAILED, FINISHED])]
    evaluated = set(frame[ID].unique())
    silent = status[ID][~status[ID].isin(evaluated)]
    diverged = status[ID][status[ID].isin(evaluated - set(best[ID]))]
    cases = {
        "failed; evaluations before that count above": failed,
        "not finished (running or killed); evaluations so far count above": unfinished,
        "left out, no evaluation": silent,
        "left out, no finite value of the metric": diverged,
    }
    return [f"{len(ids)} of {len(status)} runs {what}: {_listed(list(ids))}" for what, ids in cases.items() if len(ids)]


def file_patterns(status: pd.DataFrame) -> list[str]:
    """Where the runs' files are: a pattern for each folder of run directories, and each compacted folder."""
    folders = [Path(directory) for directory in status["directory"]]
    patterns = {
        str(folder.parent / "<experiment_id>" / "*.parquet" if folder.name == run else folder / "*.parquet")
        for folder, run in zip(folders, status[ID], strict=True)
    }
    return sorted(patterns)


def _listed(ids: Sequence[str]) -> str:
    more = len(ids) - SHOWN_IDS
    return " ".join(ids[:SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")
