"""The policies on one task: at their best lr, after equal epochs, and after equal time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import analysis
from analysis.statistics import (
    COMPLETE,
    ID,
    endings,
    options_of,
    paired_differences,
    policies,
    summarize,
    validation_metrics,
)
from benchmarks.comparison.rounds import best_rate, endings_of, runs_of, scores_of
from benchmarks.comparison.tasks import ComparedTask

SHARES = 0.05, 0.95  # quantiles of the K that a policy uses


@dataclass(frozen=True)
class Comparison:
    """The policies on one task under one scheme, each setting at its best lr.

    Attributes:
        title, scheme: of the task, and its scheme.
        metric: `valid_ppl` or the like.
        seconds: of the processor, equal for all.
        best: the fixed K with the best validation after these, with which the others are compared.
        rates, lengths: by policy, its lr, and the K that it used, as text.
        epochs, time, fixed: by policy, as from `summarize`: after equal epochs and after equal time with random phase,
            and after equal epochs with fixed phase.
        pairs: by policy, as from `paired_differences` from `best`, after equal time.
    """

    title: str
    scheme: str
    metric: str
    seconds: float
    best: str
    rates: Mapping[str, float]
    lengths: Mapping[str, str]
    epochs: pd.DataFrame
    time: pd.DataFrame
    fixed: pd.DataFrame
    pairs: pd.DataFrame


def compared(title: str, scheme: str, frame: pd.DataFrame) -> Comparison:
    """Compare the policies; `frame` is as from `chosen_runs`."""
    random, fixed = (frame[frame["phase"] == phase] for phase in ("random", "fixed"))
    ends = endings(random)
    whole = random[random[ID].isin(ends.loc[ends["ending"] == COMPLETE, ID])]
    seconds = whole.groupby(ID, observed=True)["compute_seconds"].max().min()
    timed = within(random, seconds)
    after_time = summarize(timed).set_index("policy")
    best = str(after_time.loc[after_time.index.str.startswith("fixed"), "valid_mean"].idxmin())
    options = options_of(frame)
    names = policies(options)
    return Comparison(
        title,
        scheme,
        validation_metrics(frame).iloc[0],
        seconds,
        best,
        dict(zip(names, options["lr"], strict=True)),
        lengths_used(frame, dict(zip(options[ID], names, strict=True))),
        summarize(random).set_index("policy"),
        after_time,
        summarize(fixed).set_index("policy"),
        paired_differences(timed, against=best).set_index("policy"),
    )


def chosen_runs(task: ComparedTask, scheme: str, folder: Path) -> pd.DataFrame:
    """The runs of each setting at its best lr, as from `analysis.load`."""
    runs = endings_of(folder)
    kept: set[str] = set()
    for setting in task.settings(scheme):
        rate = best_rate(scores_of(runs, task, setting))
        kept |= {*runs_of(runs, setting, lr=rate)[ID]}
    frame = analysis.load(folder)
    return frame[frame[ID].isin(kept)]


def within(frame: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """What the runs had done after so many seconds of the processor, which becomes their whole budget."""
    return frame[frame["compute_seconds"] <= seconds].drop(columns="epochs")


def lengths_used(frame: pd.DataFrame, names: Mapping[str, str]) -> dict[str, str]:
    """The median K at the evaluations after the first, and where 90 % of them lie, `12 (8-20)`: by policy.

    `names` has the policy of each run.
    """
    rows = frame[(frame["metric"] == "K") & (frame["step"] > 0)]
    found = {}
    for policy, values in rows["value"].groupby(rows[ID].map(names)):
        low, middle, high = values.quantile([SHARES[0], 0.5, SHARES[1]])
        found[str(policy)] = f"{middle:.0f}" + (f" ({low:.0f}-{high:.0f})" if low < high else "")
    return found
