"""The validation metric of a run, and its best evaluation."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from atbptt.errors import AnalysisError, unknown

from .options import ID

COMPANIONS = ("test_event_error", "test_time_rmse")  # shown beside the test value


def is_perplexity(metric: str) -> bool:
    """Whether the logarithm of a metric is what is about normal, and compared."""
    return metric.endswith("_ppl")


def validation_metrics(frame: pd.DataFrame, metric: str | None = None) -> pd.Series:
    """The metric of each run that logs it: `metric`, else the first of `valid_ppl`, `valid_loss`, `valid_nll`.

    Raises:
        AnalysisError: no run logs `metric`, or any validation metric.
    """
    choices = sorted(str(name) for name in frame["metric"].unique() if str(name).startswith("valid_"))
    if not choices:
        raise AnalysisError("no validation metric (valid_...) is logged yet")
    if metric is not None and metric not in choices:
        raise unknown("metric", metric, choices)
    order = ["valid_ppl", "valid_loss", "valid_nll"] if metric is None else [metric]
    logged = [frame.loc[frame["metric"] == name, ID].drop_duplicates() for name in order]
    ids = pd.concat(logged, ignore_index=True)
    names = np.repeat(order, [len(part) for part in logged])
    return pd.Series(names, index=ids, name="metric", dtype="str").loc[~ids.duplicated().to_numpy()]


def best_validation(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The evaluation of each run with the lowest validation value; the earliest if several are equal.

    Arguments:
        frame: metrics, as from `load` or `load_metrics`.
        metric: a `valid_...` metric, lower is better; by default see `validation_metrics`.

    Returns:
        A row per run that has a finite value: `experiment_id`, `metric`, `step` (training steps), `epoch`, `valid`, and
        at the same evaluation `test` (of the same measure), `K` (steps) and `lr_in_force` (at that K), NaN if
        not logged, and where logged `test_event_error` and `test_time_rmse`.

    Raises:
        AnalysisError: as `validation_metrics`.
    """
    chosen = validation_metrics(frame, metric)
    names = chosen.unique()
    others = {"K": "K", "lr": "lr_in_force", **{n: n for n in COMPANIONS if (frame["metric"] == n).any()}}
    rows = rows_of(frame, [*names, *map(of_test, names), *others], [ID, "metric", "step", "epoch", "value"])
    valid = rows[(rows["metric"] == rows[ID].map(chosen)) & np.isfinite(rows["value"])]
    valid = valid.sort_values([ID, "step"], kind="stable", ignore_index=True)
    best = valid.loc[valid.groupby(ID, sort=False)["value"].idxmin()].rename(columns={"value": "valid"})
    best["metric"] = best[ID].map(chosen)  # text, even if the frame has categories
    tests = rows[rows["metric"] == rows[ID].map(chosen.map(of_test))]
    at_best = {"test": tests, **{column: rows[rows["metric"] == name] for name, column in others.items()}}
    for column, logged in at_best.items():
        values = logged.drop_duplicates([ID, "step"], keep="last")[[ID, "step", "value"]]
        best = best.merge(values.rename(columns={"value": column}), on=[ID, "step"], how="left")
    return best.reset_index(drop=True)


def rows_of(frame: pd.DataFrame, names: Collection[str], columns: list[str]) -> pd.DataFrame:
    """The rows of these metrics; of those that probes measure, the first probe's."""
    return frame.loc[frame["metric"].isin(names) & (frame["replicate"] == 0), columns]


def of_test(metric: str) -> str:
    """The metric of the test split for that of the validation."""
    return metric.replace("valid_", "test_", 1)
