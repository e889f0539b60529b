"""Whether training came to rest."""

import numpy as np
import pandas as pd

from .curves import cumulative_best
from .ending import COMPLETE, endings
from .options import ID
from .validation import is_perplexity, validation_metrics

LAST = 0.1  # share of training that is looked at
LEAST_OF_ALL = 1e-3  # of what all of training gained: less is nothing, however small the spread
LEAST_OF_ONE = 1e-2  # the same for a setting of one run, which has no spread


def still_improving(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The settings whose best validation still fell in the last tenth of training, beyond the spread over init.

    The fall is the mean over complete runs, of logarithms for perplexities, on straight lines between evaluations.

    Returns:
        A row per such setting: `setting`, `runs`, `gain` (of the last tenth), `spread` (standard deviation of the best
        validation; NaN for one run), `all` (gain of all of training).

    Raises:
        AnalysisError: as `validation_metrics`.
    """
    chosen = validation_metrics(frame, metric)
    ended = endings(frame, metric).set_index(ID)
    rows = []
    for name in chosen.unique():
        own = frame[frame[ID].isin(chosen.index[chosen == name])]
        for run, values in cumulative_best(own, name).groupby(ID, observed=True):
            setting, ending = ended.loc[str(run), ["setting", "ending"]]
            values = values[np.isfinite(values["value"])]
            if ending != COMPLETE or len(values) < 2:
                continue
            epochs, best = values["epoch"].to_numpy(float), values["value"].to_numpy(float)
            best = np.log(best) if is_perplexity(name) else best
            before = np.interp((1 - LAST) * epochs[-1], epochs, best)
            rows.append((setting, before - best[-1], best[-1], best[0] - best[-1]))
    found = pd.DataFrame(rows, columns=["setting", "gain", "end", "all"]).groupby("setting", sort=False)
    of_settings = found[["gain", "all"]].mean().assign(spread=found["end"].std(), runs=found.size())
    of_all = of_settings["gain"] / of_settings["all"]
    beyond_spread = (of_settings["gain"] > of_settings["spread"]) & (of_all > LEAST_OF_ALL)
    beyond = beyond_spread.where(of_settings["spread"].notna(), of_all > LEAST_OF_ONE)
    return of_settings[beyond].reset_index()[["setting", "runs", "gain", "spread", "all"]]
