"""In a minute, whether a sweep worked: one sentence, and what a reader must know beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.report.environment import Environment
from analysis.report.leaderboard import listed
from analysis.statistics import ID, format_value, labels
from atbptt.monitor import Report, Run, seconds_left
from atbptt.runs import STALE, STATES, UNKNOWN, WAITING, duration_text
from atbptt.runs.schema import FAILED, FINISHED, INTERRUPTED, RUNNING

GOOD, NOTE, BAD = "good", "note", "bad"
WRONG = {
    FAILED: "failed",
    STALE: "were killed, or have not been heard of for long",
    UNKNOWN: "have a status that cannot be read",
}


@dataclass(frozen=True)
class Remark:
    """One thing that a reader must know: how bad it is, what it is, and the section that has more."""

    level: str
    text: str
    anchor: str = ""


def verdict(runs: Sequence[Run], known: Sequence[Remark]) -> Remark:
    """In one sentence, whether it worked."""
    counts = counted(runs)
    wrong = sum(counts.get(state, 0) for state in WRONG)
    total = "The one run" if len(runs) == 1 else f"All {len(runs)} runs"
    if counts.get(FINISHED) == len(runs):
        levels = [remark.level for remark in known]
        if BAD in levels:
            return Remark(BAD, f"{total} finished, but not all is well.")
        return Remark(GOOD, f"{total} finished" + (", with something to look at." if NOTE in levels else "."))
    done = f"{counts.get(FINISHED, 0)} of {number_of_runs(len(runs))} finished" + (
        " so far" if RUNNING in counts else ""
    )
    if wrong:
        return Remark(BAD, f"{done}; {wrong} went wrong.")
    return Remark(NOTE, f"{done}; the results below are of what has been evaluated.")


def remarks(
    outcomes: pd.DataFrame, options: pd.DataFrame, report: Report, places: Environment, problems: Sequence[str]
) -> list[Remark]:
    """All that a reader must know beside the verdict; arguments as in `summary`."""
    found = [*_of_states(report), *_of_results(outcomes, options), *_of_code(places)]
    if problems:
        what = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        found.append(Remark(NOTE, f"{what} while reading: some files were left out", "problems"))
    return found


def _of_states(report: Report) -> list[Remark]:
    """What the states of the runs say."""
    runs = report.runs
    counts = counted(runs)
    of = f"of {number_of_runs(len(runs))}"
    found = [
        Remark(BAD, f"{counts[state]} {of} {what}", "problems" if state == UNKNOWN else "failures")
        for state, what in WRONG.items()
        if state in counts
    ]
    if RUNNING in counts:
        lefts = [left for sweep in report.sweeps if (left := seconds_left(sweep)) is not None]
        ahead = f", about {duration_text(max(lefts))} left" if lefts else ""
        found.append(Remark(NOTE, f"{counts[RUNNING]} {of} still running{ahead}", "leaderboard"))
    if WAITING in counts:
        launching = any(sweep.launching and counted(sweep.runs).get(WAITING) for sweep in report.sweeps)
        what = "have yet to begin" if launching else "never began: the same command again runs them"
        found.append(Remark(NOTE, f"{counts[WAITING]} {of} {what}"))
    if INTERRUPTED in counts:
        what = "interrupted: the same command again continues them"
        found.append(Remark(NOTE, f"{counts[INTERRUPTED]} {of} {what}", "leaderboard"))
    return found


def _of_results(outcomes: pd.DataFrame, options: pd.DataFrame) -> list[Remark]:
    """What the results say: divergence, no convergence, K at the end of its range."""
    evaluated = outcomes[outcomes["evaluations"].fillna(0) > 0]
    found = []
    diverged = evaluated[~np.isfinite(evaluated["last_valid"].astype(float))]
    if not diverged.empty:
        which = listed(dict.fromkeys(_names(diverged, options)), 3)
        text = (
            f"{len(diverged)} of {number_of_runs(len(evaluated))} diverged, the last validation is not finite: {which}"
        )
        found.append(Remark(BAD, text, "leaderboard"))
    trained = evaluated[evaluated["first_step"] == 0]
    untaught = trained[(trained["step"] == 0) & ~trained[ID].isin(diverged[ID])]
    if not untaught.empty:
        which = listed(dict.fromkeys(_names(untaught, options)), 3)
        text = f"{len(untaught)} of {number_of_runs(len(trained))} got no better than before training: {which}"
        found.append(Remark(BAD, text, "leaderboard"))
    # One evaluation is the last and the best of necessity.
    ended = evaluated[(evaluated["state"] == FINISHED) & (evaluated["evaluations"] > 1)]
    improving = ended[ended["step"] == ended["last_step"]]
    if not improving.empty:
        text = (
            f"{len(improving)} of {len(ended)} finished runs validated best at the last evaluation: "
            "they may not have converged; the same command with larger epochs extends them"
        )
        found.append(Remark(NOTE, text, "figures"))
    return [*found, *_clamped(evaluated, options)]


def _of_code(places: Environment) -> list[Remark]:
    """What the code says: whether it differs between runs, and whether it can be had again."""
    versions = {own.code for own in places.software}
    found = []
    if len(versions) > 1:
        found.append(Remark(NOTE, f"the runs come from {len(versions)} versions of the code", "environment"))
    elif len(places.software) > 1:
        found.append(Remark(NOTE, "the runs ran with different packages", "environment"))
    dirty = sum(own.runs for own in places.software if any(changed for _, changed in own.code))
    if dirty:
        text = f"{number_of_runs(dirty)} ran code with uncommitted changes: no commit has exactly that"
        found.append(Remark(NOTE, text, "environment"))
    return found


def _clamped(evaluated: pd.DataFrame, options: pd.DataFrame) -> list[Remark]:
    found = []
    for name, end in (("truncation.K_max", "largest"), ("truncation.K_min", "smallest")):
        if name not in options:
            continue
        limit = evaluated[ID].map(options.set_index(ID)[name]).astype("Float64")
        own = evaluated[limit.notna()]
        at = own[(own["last_K"].astype("Float64") == limit[limit.notna()]).fillna(False)]
        if not at.empty:
            values = listed(dict.fromkeys(format_value(value) for value in limit[at.index].astype(float)), 3)
            text = f"{len(at)} of {number_of_runs(len(own))} that choose K came to the {end} allowed: {name}={values}"
            found.append(Remark(NOTE, text, "leaderboard"))
    return found


def counted(runs: Sequence[Run]) -> dict[str, int]:
    """How many runs are in each state, states that none is in left out."""
    counts = Counter(run.status.state for run in runs)
    return {state: counts[state] for state in (FINISHED, *STATES) if counts[state]}


def _names(rows: pd.DataFrame, options: pd.DataFrame) -> list[str]:
    own = dict(zip(options[ID], labels(options), strict=True))
    return [str(own[identity]) for identity in rows[ID]]


def number_of_runs(count: int) -> str:
    """`1 run`, `2 runs`."""
    return "1 run" if count == 1 else f"{count} runs"
