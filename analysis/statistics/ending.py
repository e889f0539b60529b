"""How the runs ended: at their budget, before it, or diverged; and which of a setting's runs make its mean."""

import numpy as np
import pandas as pd

from atbptt.runs import schema

from .options import ID, labels, options_of
from .validation import rows_of, validation_metrics

COMPLETE, UNFINISHED, DIVERGED = "complete", "unfinished", "diverged"
BETTER_FIRST = (COMPLETE, UNFINISHED, DIVERGED)
BUDGETS = ("epochs", "seconds")  # which `schema.ENDED_BY` does not name


def endings(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """How each run ended, by its validation metric.

    Arguments and errors as in `validation_metrics`.

    Returns:
        A row per run that logs the metric: `experiment_id`; `setting` (see `labels`); `reached` (epochs) and `epochs`
        (budget; NaN where the options do not tell); `ending`:

        - `diverged`: training or the last evaluation is not finite, or the last evaluation is worse than the first, or
          none is better than the one before training;
        - `complete`: else, if it has reached its budget of `epochs` or `seconds`, or its patience has ended it;
        - `unfinished`: else. It failed, was interrupted, or still runs.

        and `counts`: whether it makes the mean of its setting. Complete runs do; in a setting that has none, the
        unfinished ones; in one that has none of either, all.
    """
    chosen = validation_metrics(frame, metric)
    rows = rows_of(frame, chosen.unique(), [ID, "metric", "step", "epoch", "train_seconds", "value"])
    rows = rows[rows["metric"] == rows[ID].map(chosen)].sort_values([ID, "step"], kind="stable", ignore_index=True)
    rows["value"] = rows["value"].where(np.isfinite(rows["value"]), np.inf)
    runs = rows.groupby(ID, sort=False)
    first, last = runs.first(), runs.last()
    best = rows.loc[runs["value"].idxmin()].set_index(ID)
    several = runs.size() > 1
    worse = (last["value"] > first["value"]) | ((best["step"] == 0) & several)
    options = options_of(frame)
    complete = at_budget(rows, options).loc[first.index]
    worse |= ~np.isfinite(last["value"]) | first.index.isin(frame.loc[frame["metric"] == schema.DIVERGED, ID])
    ending = np.select([worse, complete], [DIVERGED, COMPLETE], UNFINISHED)
    own = options.assign(setting=labels(options)).set_index(ID).reindex(columns=["setting", "epochs"]).loc[first.index]
    found = own.assign(reached=last["epoch"], ending=ending)
    place = found["ending"].map(BETTER_FIRST.index)
    found["counts"] = place == place.groupby(found["setting"]).transform("min")
    return found.reset_index(names=ID)


def at_budget(rows: pd.DataFrame, options: pd.DataFrame) -> pd.Series:
    """By run, whether it was evaluated at its budget of `epochs` or `seconds`, or its patience has ended it.

    True where the options have no budget.
    """
    last = rows.groupby(ID, observed=True)[["epoch", "train_seconds"]].max()
    budgets = options.set_index(ID).reindex(index=last.index, columns=[*BUDGETS, schema.ENDED_BY])
    epochs, seconds = (budgets[name].astype("Float64").to_numpy(float, na_value=np.nan) for name in BUDGETS)
    endless = np.isnan(epochs) & np.isnan(seconds)
    ended = budgets[schema.ENDED_BY].notna()
    return (last["epoch"] >= epochs) | (last["train_seconds"] >= seconds) | endless | ended
