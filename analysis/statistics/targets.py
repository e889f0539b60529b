"""How long a run takes to reach a value: by epoch, by updates, by time."""

import math
from decimal import ROUND_CEILING, Context

import numpy as np
import pandas as pd

from .curves import AXES
from .ending import endings
from .options import GROUPED, ID, described

DIGITS = Context(prec=4, rounding=ROUND_CEILING)  # of the default target


def time_to_target(frame: pd.DataFrame, metric: str, target: float) -> pd.DataFrame:
    """The first evaluation of each run at which a metric is finite and at most the target.

    The time is late by up to the interval between two evaluations.

    Returns:
        A row per run that logs the metric: `experiment_id`, and each clock of `AXES` at that evaluation. NaN if the run
        has not reached the target.
    """
    axes = [axis for axis in AXES if axis in frame]
    rows = frame.loc[(frame["metric"] == metric) & (frame["replicate"] == 0), [ID, "step", *axes, "value"]]
    runs = rows[[ID]].drop_duplicates().sort_values(ID)
    reached = rows[(rows["value"] <= target) & np.isfinite(rows["value"])]
    reached = reached.sort_values("step", kind="stable").drop_duplicates(ID)
    return runs.merge(reached[[ID, *axes]].astype(dict.fromkeys(axes, float)), on=ID, how="left")


def summarize_targets(frame: pd.DataFrame, metric: str, target: float) -> pd.DataFrame:
    """`time_to_target` of each setting, over initialisations: of a validation metric, by the runs that count.

    See `endings` for these.

    Returns:
        A row per setting, those that most often and soonest reach it first: `policy`, each option in `settings`, `runs`
        (that log the metric), `reached` (how many of them reach the target), and over those `<clock>_mean`,
        `<clock>_sd` and `<clock>_median` of each clock. Compare the clocks only of settings all of whose runs reach it.
    """
    runs, ends = described(frame), endings(frame, metric)
    times = time_to_target(frame, metric, target).merge(runs[runs[ID].isin(ends.loc[ends["counts"], ID])], on=ID)
    groups = times.groupby(list(runs.columns.drop(ID)), **GROUPED)
    axes = [axis for axis in AXES if axis in times]
    result = groups[axes].agg(["mean", "std", "median"]).rename(columns={"std": "sd"})
    result.columns = result.columns.map("_".join)
    result.insert(0, "runs", groups.size().to_numpy())
    result.insert(1, "reached", groups["epoch"].count().to_numpy())
    result = result.reset_index()
    share = -result["reached"] / result["runs"]
    return result.iloc[np.lexsort((result["epoch_mean"], share))].reset_index(drop=True)


def default_target(frame: pd.DataFrame, metric: str) -> float:
    """The lowest value that every run of two policies reaches, or of the only policy; infinite if there is none.

    Of each policy the setting whose worst run is best counts. The value is rounded up to four digits.
    """
    runs = described(frame)
    rows = frame.loc[(frame["metric"] == metric) & (frame["replicate"] == 0), [ID, "value"]]
    best = rows["value"].where(np.isfinite(rows["value"]), np.inf).groupby(rows[ID]).min().rename("best")
    settings = runs.merge(best, on=ID).groupby(list(runs.columns.drop(ID)), **GROUPED)
    worst = settings["best"].max().groupby("policy", sort=False).min()
    reached = sorted(worst)[:2]
    return rounded_up(reached[-1]) if reached else math.inf


def rounded_up(value: float) -> float:
    """To four digits, in decimal: 1.1 stays 1.1."""
    return float(DIGITS.create_decimal(repr(float(value))))
