"""Differences between truncation policies, from pairs of runs that start from the same parameters."""

from collections.abc import Hashable

import pandas as pd

from analysis.statistics.summary import ID, best_validation, grouped, options_of, policies, settings, summarize
from atbptt.errors import unknown


def paired_differences(frame: pd.DataFrame, metric: str | None = None, reference: str | None = None) -> pd.DataFrame:
    """How much worse each policy is than a reference, in runs of equal `init`.

    A pair is a run of the policy and a run of the reference with equal `init` and equal `settings` (lr, seed, model,
    ...). Several runs that have all of these in common are averaged first. Runs without a partner, or without a finite
    validation value, do not count.

    Arguments:
        frame: as from `load`, of one dataset.
        metric: as in `best_validation`.
        reference: a policy as in `policies` (`fixed K=5`); by default that of the setting with the lowest mean best
            validation.

    Returns:
        A row per other policy and setting, lowest difference first: `policy`, `reference`, each option in `settings`,
        `metric`, `pairs`, and of the difference (policy minus reference) of the best validation and of the test value
        there: `valid_mean`, `valid_sd`, `valid_low`, `valid_high`, `test_mean`, ... (see `estimates`).

    Raises:
        AnalysisError: as `best_validation`, or no run has the policy `reference`.
    """
    options = options_of(frame)
    columns = settings(options)
    names = policies(options)
    if reference is None:
        summary = summarize(frame, metric).sort_values("valid_mean", kind="stable")
        reference = str(summary["policy"].iloc[0])
    elif reference not in set(names):
        raise unknown("reference", reference, sorted(names.unique()))
    init = [name for name in ("init",) if name in options]
    best = best_validation(frame, metric).merge(options[[ID, *init, *columns]].assign(policy=names), on=ID)
    keys: list[Hashable] = [*columns, "metric", *init]
    best = best.groupby(["policy", *keys], dropna=False, observed=True)[["valid", "test"]].mean().reset_index()
    is_reference = best["policy"] == reference
    pairs = best[~is_reference].merge(best[is_reference].drop(columns="policy"), on=keys, suffixes=("", "_reference"))
    for column in ("valid", "test"):
        pairs[column] -= pairs[f"{column}_reference"]
    rows = grouped(pairs, ["policy", *columns, "metric"], ["valid", "test"]).rename(columns={"runs": "pairs"})
    rows.insert(1, "reference", reference)
    return rows.sort_values([*columns, "valid_mean"], kind="stable", ignore_index=True)
