"""What each setting of a sweep came to: mean best validation, and how many of its runs diverged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.figures.divergence import diverged
from analysis.statistics import ID, best_validation, labels, options_of, policies, settings


def outcomes(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row per setting of one dataset, best first.

    Arguments:
        frame: as from `load`.
        metric: the validation metric.

    Returns:
        `setting` (label), `policy` (`fixed K=5`), `kind` (`fixed`), the options that vary (see `settings`) and `lr`,
        `K`, `delta`; `runs`, `diverged` (how many ended beyond `limit` or not a number), `best` (mean best validation
        of those that did not; NaN if none is left).
    """
    options = options_of(frame)
    varying = settings(options)
    table = options[[ID, *varying]].assign(setting=labels(options), policy=policies(options).astype(str))
    table["kind"] = table["policy"].str.split(" ", n=1).str[0]
    for name, column in {"lr": "lr", "K": "truncation.K", "delta": "truncation.delta"}.items():
        table[name] = options[column].astype(float) if column in options else np.nan
    values = frame.loc[frame["metric"] == metric, [ID, "step", "metric", "epoch", "replicate", "value"]]
    lost = diverged(values, perplexity=metric == "valid_ppl")
    table["diverged"] = table[ID].isin(lost)
    best = best_validation(values, metric).set_index(ID)["valid"]
    table["best"] = table[ID].map(best).where(~table["diverged"])
    columns = [name for name in table.columns if name not in (ID, "setting", "diverged", "best")]
    found = table.groupby("setting", sort=False).agg(
        **{name: (name, "first") for name in columns},
        runs=(ID, "size"),
        diverged=("diverged", "sum"),
        best=("best", "mean"),
    )
    return found.reset_index().sort_values("best", kind="stable", ignore_index=True)
