"""The summary: whether the runs worked, what to know about them, and which is the best."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import pandas as pd

from atbptt.monitor import Report, Run, seconds_left
from atbptt.runs import STALE, STATES, UNKNOWN, WAITING, duration_text
from atbptt.runs.schema import FAILED, FINISHED, INTERRUPTED, RUNNING

from ..loading import Results
from ..statistics import DIVERGED, ID, format_value, labels, still_improving
from ..tables import measure_name, versions
from .leaderboard import significant

GOOD, NOTE, BAD = "good", "note", "bad"
WRONG = {
    FAILED: "failed",
    STALE: "were killed, or have been silent for long",
    UNKNOWN: "have a status that cannot be read",
}


class Remark(NamedTuple):
    """Something to know about the runs, and the section that has more."""

    level: str
    text: str
    anchor: str = ""


def verdict(runs: Sequence[Run], known: Sequence[Remark]) -> Remark:
    """In one sentence, whether the runs worked."""
    counts = counted(runs)
    if counts.get(FINISHED) == len(runs):
        total = "The one run" if len(runs) == 1 else f"All {len(runs)} runs"
        levels = [remark.level for remark in known]
        if BAD in levels:
            return Remark(BAD, f"{total} finished, but not all is well.")
        return Remark(GOOD, f"{total} finished" + (", with something to look at." if NOTE in levels else "."))
    so_far = " so far" if RUNNING in counts else ""
    done = f"{counts.get(FINISHED, 0)} of {number_of_runs(runs)} finished{so_far}"
    wrong = sum(counts.get(state, 0) for state in WRONG)
    if wrong:
        return Remark(BAD, f"{done}; {wrong} went wrong.")
    return Remark(NOTE, f"{done}; the results below are of what has been evaluated.")


def remarks(
    outcomes: pd.DataFrame,
    results: Results,
    report: Report,
    environment: Mapping[str, Any],
    problems: Sequence[str],
) -> list[Remark]:
    """What to know beside the verdict; `environment` is that of `analysis.loading`."""
    found = [*_of_states(report), *_of_results(outcomes, results), *_of_code(environment)]
    if problems:
        what = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        found.append(Remark(NOTE, f"{what} while reading: some files were left out", "problems"))
    return found


def _of_states(report: Report) -> Iterator[Remark]:
    counts = counted(report.runs)
    of = f"of {number_of_runs(report.runs)}"
    for state, what in WRONG.items():
        if state in counts:
            yield Remark(BAD, f"{counts[state]} {of} {what}", "problems" if state == UNKNOWN else "failures")
    if RUNNING in counts:
        lefts = [left for sweep in report.sweeps if (left := seconds_left(sweep)) is not None]
        ahead = f", about {duration_text(max(lefts))} left" if lefts else ""
        yield Remark(NOTE, f"{counts[RUNNING]} {of} still running{ahead}", "leaderboard")
    if WAITING in counts:
        launching = any(sweep.launching and counted(sweep.runs).get(WAITING) for sweep in report.sweeps)
        what = "have yet to begin" if launching else "never began: the same command again runs them"
        yield Remark(NOTE, f"{counts[WAITING]} {of} {what}")
    if INTERRUPTED in counts:
        what = "interrupted: the same command again continues them"
        yield Remark(NOTE, f"{counts[INTERRUPTED]} {of} {what}", "leaderboard")


def _of_results(outcomes: pd.DataFrame, results: Results) -> Iterator[Remark]:
    options = results.options
    names = dict(zip(options[ID], labels(options), strict=True))
    evaluated = outcomes[outcomes["evaluations"].fillna(0) > 0]
    diverged = evaluated[evaluated["ending"] == DIVERGED]
    if len(diverged):
        which = listed(dict.fromkeys(names[identity] for identity in diverged[ID]), 3, "; ")
        what = "diverged, the last validation is not finite, or no better than before training"
        yield Remark(BAD, f"{len(diverged)} of {number_of_runs(evaluated)} {what}: {which}", "leaderboard")
    if len(evaluated):
        improving = still_improving(results.frame)
        if len(improving):
            of = evaluated[ID].map(names).nunique()
            several = " beyond the spread over init" if (improving["runs"] > 1).all() else ""
            text = (
                f"{len(improving)} of {of} settings still improved in the last tenth of training{several} "
                f"({listed(improving['setting'], 3, '; ')}): the same command with larger epochs extends them"
            )
            yield Remark(NOTE, text, "figures")
    for name, end in (("truncation.K_max", "largest"), ("truncation.K_min", "smallest")):
        if name in options:
            limit = evaluated[ID].map(options.set_index(ID)[name]).astype("Float64").astype(float)
            at = limit[evaluated["last_K"] == limit]
            if not at.empty:
                text = f"{len(at)} of {number_of_runs(limit.dropna())} that choose K came to the {end} allowed: "
                yield Remark(NOTE, f"{text}{name}={listed(map(format_value, at.unique()), 3)}", "leaderboard")


def _of_code(environment: Mapping[str, Any]) -> Iterator[Remark]:
    yield from (Remark(NOTE, line, "environment") for line in versions(environment))
    dirty = sum(own["runs"] for own in environment["software"] if any(changed for _, changed, _ in own["code"]))
    if dirty:
        text = f"{number_of_runs(dirty)} ran code with uncommitted changes: no commit has exactly that"
        yield Remark(NOTE, text, "environment")


def winners(outcomes: pd.DataFrame, options: pd.DataFrame) -> list[dict[str, Any]]:
    """The best run of each data set and metric under the same conditions; `of` is the number of its rivals and it."""
    best = []
    ranked = outcomes[outcomes["rank"].notna()]
    for (dataset, metric, _), runs in ranked.groupby(["dataset", "metric", "conditions"], observed=True):
        first = runs.iloc[0]
        comparable = ranked[(ranked["dataset"] == dataset) & (ranked["metric"] == metric)]
        rivals = options[options[ID].isin(comparable[ID])]  # what differs from other data sets is no setting here
        names = dict(zip(rivals[ID], labels(rivals), strict=True))
        best.append(
            {
                "dataset": dataset,
                "measure": measure_name(str(metric)),
                "valid": significant(first["valid"]),
                "test": significant(first["test"]),
                "setting": names[first[ID]],
                "init": format_value(first["init"]),
                "K": "" if pd.isna(first["K"]) else f"{first['K']:.4g}",
                "epoch": f"{first['epoch']:.4g}",
                "run": first[ID],
                "of": len(runs),
            }
        )
    return best


def counted(runs: Sequence[Run]) -> dict[str, int]:
    """How many runs are in each state, without states that do not occur."""
    counts = Counter(run.status.state for run in runs)
    return {state: counts[state] for state in (FINISHED, *STATES) if counts[state]}


def states(runs: Sequence[Run]) -> str:
    """`2 finished, 1 failed`."""
    return ", ".join(f"{count} {state}" for state, count in counted(runs).items())


def number_of_runs(runs: int | Sized) -> str:
    """`1 run`, `2 runs`."""
    count = runs if isinstance(runs, int) else len(runs)
    return "1 run" if count == 1 else f"{count} runs"


def listed(items: Iterable[str], shown: int = 6, comma: str = ", ") -> str:
    """`a, b, c and 4 more`."""
    items = list(items)
    more = len(items) - shown
    return comma.join(items[:shown]) + (f" and {more} more" if more > 0 else "")
