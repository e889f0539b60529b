"""How long a run takes to reach a value: by epoch, by updates, by time."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import pandas as pd

from analysis.statistics.curves import AXES
from analysis.statistics.summary import GROUPED, ID, options_of, policies, settings


def time_to_target(frame: pd.DataFrame, metric: str, target: float) -> pd.DataFrame:
    """The first evaluation of each run at which a metric is finite and at most the target.

    Between two evaluations nothing is known, so the answer is late by up to the interval between them.

    Arguments:
        frame: as from `load` or `load_metrics`.
        metric: its name, lower is better.
        target: in the unit of the metric.

    Returns:
        A row per run that logs the metric, by id: `experiment_id`, and each clock at that evaluation: `epoch`,
        `adaptive_epoch` (with the steps that the policy's probes read), `updates`, `train_seconds` (s). NaN where the
        target is not reached (yet).
    """
    rows = frame.loc[(frame["metric"] == metric) & (frame["replicate"] == 0), [ID, "step", *AXES, "value"]]
    runs = rows[[ID]].drop_duplicates().sort_values(ID)
    reached = rows[(rows["value"] <= target) & np.isfinite(rows["value"])]
    reached = reached.sort_values("step", kind="stable").drop_duplicates(ID)
    return runs.merge(reached[[ID, *AXES]].astype(dict.fromkeys(AXES, float)), on=ID, how="left")


def summarize_targets(frame: pd.DataFrame, metric: str, target: float) -> pd.DataFrame:
    """`time_to_target` of each setting, over initialisations.

    Arguments: as in `time_to_target`, with the options in the frame.

    Returns:
        A row per setting, those that most often and soonest reach it first: `policy`, each option in `settings`, `runs`
        (that log the metric), `reached` (how many of them reach the target), and over those that do `<clock>_mean`,
        `<clock>_sd` and `<clock>_median` of each clock. A mean over those that reach it says nothing of the others:
        compare settings only where all their runs do.
    """
    options = options_of(frame)
    columns = settings(options)
    keys: list[Hashable] = ["policy", *columns]
    known = options[[ID, *columns]].assign(policy=policies(options))
    groups = time_to_target(frame, metric, target).merge(known, on=ID).groupby(keys, **GROUPED)
    parts = {"runs": groups[ID].size(), "reached": groups["epoch"].count()}
    for axis in AXES:
        parts |= {f"{axis}_{part}": getattr(groups[axis], how)() for part, how in _PARTS.items()}
    result = pd.DataFrame(parts).reset_index()
    share = -result["reached"] / result["runs"]
    return result.iloc[np.lexsort((result["epoch_mean"], share))].reset_index(drop=True)


def default_target(frame: pd.DataFrame, metric: str) -> float:
    """The lowest value that every run of two policies reaches, or of the only one: so at least two can be compared.

    Of each policy the setting whose worst run is best counts. Rounded up to four digits. Infinite where there is no
    such value.
    """
    options = options_of(frame)
    columns = settings(options)
    rows = frame.loc[(frame["metric"] == metric) & (frame["replicate"] == 0), [ID, "value"]]
    best = rows["value"].where(np.isfinite(rows["value"]), np.inf).groupby(rows[ID]).min().rename("best")
    runs = options[[ID, *columns]].assign(policy=policies(options)).merge(best, on=ID)
    worst = runs.groupby(["policy", *columns], **GROUPED)["best"].max().groupby("policy", sort=False).min()
    reached = sorted(worst)[:2]
    return _rounded_up(reached[-1]) if reached else math.inf


_PARTS = {"mean": "mean", "sd": "std", "median": "median"}


def _rounded_up(value: float, digits: int = 4) -> float:
    if not math.isfinite(value) or value == 0:
        return value
    # In decimal: 1.1 * 1000 is above 1100.
    text = f"{value:.{digits - 1}e}"
    step = float(f"1e{int(text.partition('e')[2]) - digits + 1}")
    return float(text) if float(text) >= value else float(f"{float(text) + step:.{digits - 1}e}")
