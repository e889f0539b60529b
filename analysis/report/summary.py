"""What a reader wants to know first: what ran, whether it worked, what is best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.report.environment import Environment
from analysis.report.leaderboard import significant
from analysis.report.verdict import Remark, counted, number_of_runs, remarks, verdict
from analysis.statistics import ID, format_value, labels
from analysis.tables import measure_name
from atbptt.monitor import Report, Sweep
from atbptt.runs import duration_text


@dataclass(frozen=True)
class Launch:
    """A sweep as it was typed, when and where, and how far it is."""

    command: str
    begun: str
    counts: str


@dataclass(frozen=True)
class Winner:
    """The best run of a data set."""

    dataset: str
    measure: str
    valid: str
    test: str
    setting: str
    init: str
    K: str
    epoch: str
    run: str
    of: int


@dataclass(frozen=True)
class Summary:
    """The first section."""

    verdict: Remark
    remarks: tuple[Remark, ...]
    counts: tuple[tuple[str, int], ...]
    runs: int
    train_time: str
    launches: tuple[Launch, ...]
    unplanned: int
    winners: tuple[Winner, ...]


def summary(
    outcomes: pd.DataFrame, options: pd.DataFrame, report: Report, places: Environment, problems: Sequence[str]
) -> Summary:
    """The summary of some runs.

    Arguments:
        outcomes: as from `outcomes`.
        options: a row per run, as from `load_options`.
        report: as from `atbptt.monitor.reading.Reader`.
        places: as from `environment`.
        problems: a line for each file that cannot be read.
    """
    runs = report.runs
    known = remarks(outcomes, options, report, places, problems)
    return Summary(
        verdict(runs, known),
        tuple(known),
        tuple(counted(runs).items()),
        len(runs),
        duration_text(outcomes["train_seconds"].sum()) if outcomes["train_seconds"].notna().any() else "",
        tuple(_launch(sweep) for sweep in report.sweeps),
        len(report.unplanned),
        tuple(winners(outcomes, options)),
    )


def winners(outcomes: pd.DataFrame, options: pd.DataFrame) -> list[Winner]:
    """The best run of each data set and metric, with how many runs it is the best of."""
    ranked = outcomes[outcomes["rank"].notna()]
    best = []
    for (dataset, metric), runs in ranked.groupby(["dataset", "metric"], observed=True):
        first = runs.iloc[0]
        rivals = options[options[ID].isin(runs[ID])]  # what differs from other data sets is no setting here
        own = dict(zip(rivals[ID], labels(rivals), strict=True))
        best.append(
            Winner(
                str(dataset),
                measure_name(str(metric)),
                significant(first["valid"]),
                significant(first["test"]),
                str(own[first[ID]]),
                format_value(first["init"]),
                "" if pd.isna(first["K"]) else f"{first['K']:.4g}",
                f"{first['epoch']:.4g}",
                first[ID],
                len(runs),
            )
        )
    return best


def _launch(sweep: Sweep) -> Launch:
    begun = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(sweep.started))
    end = {True: "still running", False: "ended", None: "state unknown"}[sweep.launching]
    counts = ", ".join(f"{count} {state}" for state, count in counted(sweep.runs).items())
    return Launch(sweep.typed, f"begun {begun} on {sweep.host}, {end}", f"{number_of_runs(len(sweep.runs))}: {counts}")
