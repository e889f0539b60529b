"""Differences between truncation policies, from pairs of runs that start from the same parameters."""

from collections.abc import Hashable

import numpy as np
import pandas as pd

from atbptt.errors import unknown

from .options import GROUPED, ID, conditions, described, natural, options_of, policies
from .summary import grouped, standing
from .uncertainty import LEAST_RUNS, LEVEL, SIGNS_FROM, holm, sign_test, t_test
from .validation import is_perplexity

BETTER, WORSE, EQUAL, FEW = "better", "worse", "no difference to tell", "too few runs"


def paired_differences(frame: pd.DataFrame, metric: str | None = None, against: str | None = None) -> pd.DataFrame:
    """How much worse each policy is than a reference that is named beforehand, in runs of equal `init`.

    Each policy stands with its chosen setting (see `summarize`), so that a pair may have two learning rates; the
    conditions, as seed and data, are the same. Perplexities are compared by their logarithms, that is by their ratio.

    Arguments:
        frame: as from `load`, of one dataset.
        metric: as in `best_validation`.
        against: the reference, a policy as in `policies` (`fixed K=5`); by default, of those that have complete
            runs, the first by name.

    Returns:
        A row per other policy and condition: `policy`, `against`, each option in `settings` (of the policy), `metric`,
        `pairs`, and of the difference (policy minus reference) of the best validation and of the test value there, or
        of their logarithms: `valid_mean`, `valid_sd`, `valid_low`, `valid_high`, `test_mean`, ... (see `estimates`).

        Of the test value, or the validation where no test is logged: `p` (Student's t test, corrected for the number of
        rows by Holm's method), `p_signs` (see `sign_test`, uncorrected; NaN for fewer than six pairs), and `verdict`:
        `better`, `worse`, `no difference to tell`, or `too few runs` (fewer than three pairs).

    Raises:
        AnalysisError: as `summarize`, or no run has the policy `against`.
    """
    options = options_of(frame)
    names = sorted(policies(options).unique(), key=natural)
    if against is not None and against not in names:
        raise unknown("against", against, names)
    runs = standing(frame, metric).dropna(subset="init")
    against = against or min(runs["policy"].unique(), key=natural, default=names[0])
    log = runs["metric"].map(is_perplexity).astype(bool)
    runs.loc[log, ["valid", "test"]] = np.log(runs.loc[log, ["valid", "test"]])
    keys: list[Hashable] = [*conditions(options), "metric", "init"]
    reference = runs.loc[runs["policy"] == against, [*keys, "valid", "test"]]
    pairs = runs[runs["policy"] != against].merge(reference, on=keys, suffixes=("", "_reference"))
    for column in ("valid", "test"):
        pairs[column] -= pairs.pop(f"{column}_reference")
    by: list[Hashable] = [*described(frame).columns.drop(ID), "metric"]
    groups = pairs.groupby(by, **GROUPED)
    numbers = groups.ngroup().to_numpy()
    rows = grouped(pairs, by, [], ["valid", "test"]).rename(columns={"runs": "pairs"})
    rows.insert(1, "against", against)
    of = "test" if rows["test_mean"].notna().any() else "valid"
    mean, sd = (rows[f"{of}_{name}"].to_numpy(float) for name in ("mean", "sd"))
    rows["p"] = holm(t_test(mean, sd, groups[of].count().to_numpy()))
    own = [pairs.loc[numbers == number, of].dropna().to_numpy(float) for number in range(len(rows))]
    rows["p_signs"] = [sign_test(values) if len(values) >= SIGNS_FROM else np.nan for values in own]
    told = np.where(mean < 0, BETTER, WORSE)
    rows["verdict"] = np.select([rows["p"].isna(), rows["p"] >= 1 - LEVEL], [FEW, EQUAL], told)
    return rows.sort_values([*conditions(options), f"{of}_mean"], kind="stable", ignore_index=True)


def as_good_as_best(values: pd.DataFrame, log: bool) -> pd.Series:
    """Which columns cannot be told from the one with the lowest mean, by Student's t test.

    That one was picked for its values, so p is corrected for all pairs of columns: of equal ones, in 95 % of cases all
    are as good as the best.

    Arguments:
        values: a row per `init`, a column per setting; NaN is missing.
        log: whether logarithms are compared.

    Returns:
        By column, true for the best and those not told from it; false for all if the best has fewer than three values,
        and for columns that share fewer than three rows with it.
    """
    if log:
        values = values.map(np.log)
    if values.empty or values[best := values.mean().idxmin()].count() < LEAST_RUNS:
        return pd.Series(False, index=values.columns)
    differences = values.sub(values[best], axis=0).drop(columns=best)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        p = t_test(*(differences.agg(how).to_numpy(float) for how in ("mean", "std", "count")))
    p = holm(p * len(values.columns) / 2)
    return pd.Series(p >= 1 - LEVEL, index=differences.columns).reindex(values.columns, fill_value=True)
