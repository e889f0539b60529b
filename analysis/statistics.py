"""What the runs say: settings, the best validation of a run, means over initialisations. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Hashable

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, unknown
from atbptt.schema import METRICS_SCHEMA

ID = "experiment_id"
KEY_OF_POLICY = {"fixed": "K", "adaptive": "delta"}  # always in the label, even if all runs share it
# Options that tell no settings apart: replicates, budget, where and on what a run ran.
NOT_SETTINGS = {ID, "init", "epochs", "seconds", "device", "monitor"}


def options_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The options in a frame from `load`: a row per run, without the columns of the metrics."""
    metrics = [name for name in METRICS_SCHEMA.names if name != ID]
    return frame.drop_duplicates(ID).drop(columns=metrics).reset_index(drop=True)


def settings(options: pd.DataFrame) -> list[str]:
    """The options, besides the truncation policy, that tell the runs apart.

    Never `init` (a replicate), the budget, paths and the device. An option of a group (`model.hidden`)
    counts if it differs between runs with the same choice (`model`): the choice itself says the rest. In the
    same way an option that only some policies have counts if it differs between runs that have it, or within
    a policy.

    Arguments:
        options: a row per run, as from `load_options` or `options_of`.
    """
    return [name for name in options.columns if _is_setting(name) and _varies(options, name)]


def policies(options: pd.DataFrame) -> pd.Series:
    """The truncation policy of each run as a person writes it: `fixed K=5`, `adaptive delta=0.9`.

    After the policy's key parameter come its options that differ between runs of that policy; a policy
    that is not ours has no key parameter. The result has the index of `options`.
    """
    names = _choice(options, "truncation")
    labels = names.copy()
    own = [column for column in options.columns if column.startswith("truncation.")]
    for name, runs in options.groupby(names, sort=False):
        key = f"truncation.{KEY_OF_POLICY.get(str(name), '')}"
        columns = [column for column in own if len(runs[column].unique()) > 1]
        if key in own:
            columns = [key, *(column for column in columns if column != key)]
        for column in columns:
            part = runs[column].map(lambda v, c=column: f" {c.removeprefix('truncation.')}={format_value(v)}")
            labels.loc[runs.index] += part.where(runs[column].notna(), "").astype(labels.dtype)
    return labels.rename("policy")


def labels(options: pd.DataFrame) -> pd.Series:
    """The policy of each run with the other options that vary: `fixed K=5, lr=10`. Indexed like `options`."""
    result = policies(options)
    for column in settings(options):
        part = options[column].map(lambda value, c=column: f", {c}={format_value(value)}")
        result += part.astype(result.dtype)
    return result.rename("setting")


def format_value(value: object) -> str:
    """A value as a person types it: 5, 0.9, 1e-05, lstm; `-` for null. Different values look different."""
    if value is None or value is pd.NA or value != value:  # NaN
        return "-"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))
    return str(value)


def natural(label: str) -> list[tuple[float, str]]:
    """A sort key for labels that puts K=5 before K=10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", label)
    return [(float(part), "") if index % 2 else (0.0, part) for index, part in enumerate(parts)]


def validation_metrics(frame: pd.DataFrame, metric: str | None = None) -> pd.Series:
    """The validation metric of each run (index `experiment_id`); runs that log none are absent.

    `metric` if it is given, else `valid_ppl`, or `valid_loss` for a run that has no perplexity, or `valid_nll` for
    one that has neither (point processes).

    Raises:
        AnalysisError: no run logs `metric`, or none logs any validation metric.
    """
    logged = frame.loc[frame["metric"].str.startswith("valid_"), [ID, "metric"]].drop_duplicates()
    choices = sorted(logged["metric"].unique())
    if not choices:
        raise AnalysisError("no validation metric (valid_...) is logged yet")
    if metric is not None and metric not in choices:
        raise unknown("metric", metric, choices)
    order = ["valid_ppl", "valid_loss", "valid_nll"] if metric is None else [metric]
    logged = logged[logged["metric"].isin(order)].sort_values("metric", key=lambda m: m.map(order.index))
    return logged.drop_duplicates(ID).set_index(ID)["metric"]


def best_validation(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The evaluation of each run with the lowest validation value, the earliest of equals.

    Arguments:
        frame: metrics, as from `load` or `load_metrics`.
        metric: a `valid_...` metric, lower is better; by default see `validation_metrics`.

    Returns:
        A row per run that has a finite value (NaN and infinity never win): `experiment_id`, `metric`, `step`
        (training steps), `epoch`, `valid`, `test` (of the same measure, at the same evaluation; NaN if it is
        not logged), `K` (steps, the one in use there).

    Raises:
        AnalysisError: as `validation_metrics`.
    """
    chosen = validation_metrics(frame, metric)
    rows = frame[frame["replicate"] == 0].sort_values([ID, "step"], kind="stable")
    own = rows[ID].map(chosen)  # the metric of the row's run
    valid = rows[(rows["metric"] == own) & np.isfinite(rows["value"])].reset_index(drop=True)
    best = valid.loc[valid.groupby(ID, sort=False)["value"].idxmin(), [ID, "metric", "step", "epoch", "value"]]
    best = best.rename(columns={"value": "valid"})
    tests = rows[rows["metric"] == own.str.replace("valid_", "test_", n=1)]
    for column, at_best in {"test": tests, "K": rows[rows["metric"] == "K"]}.items():
        values = at_best.drop_duplicates([ID, "step"], keep="last")[[ID, "step", "value"]]
        best = best.merge(values.rename(columns={"value": column}), on=[ID, "step"], how="left")
    return best.reset_index(drop=True)


def summarize(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """Mean and standard deviation over initialisations of each setting's best validation.

    Arguments:
        frame: as from `load`.
        metric: as in `best_validation`.

    Returns:
        A row per setting, sorted by experiment and dataset if they vary, then by validation: `policy`, each
        option in `settings`, `metric`, `runs` (how many count), `valid_mean`, `valid_sd`, `test_mean`,
        `test_sd` (at the best validation; sd with n - 1, NaN for one run), `K_mean` (steps), `epoch_mean`.
    """
    options = options_of(frame)
    columns = settings(options)
    best = best_validation(frame, metric).merge(options[[ID, *columns]].assign(policy=policies(options)), on=ID)
    keys: list[Hashable] = ["policy", *columns, "metric"]
    summary = best.groupby(keys, dropna=False, sort=False).agg(
        runs=(ID, "size"),
        valid_mean=("valid", "mean"),
        valid_sd=("valid", "std"),
        test_mean=("test", "mean"),
        test_sd=("test", "std"),
        K_mean=("K", "mean"),
        epoch_mean=("epoch", "mean"),
    )
    order = [*(name for name in ("name", "dataset") if name in columns), "metric", "valid_mean"]
    return summary.reset_index().sort_values(order, kind="stable", ignore_index=True)


def mean_curve(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric against the epoch, over the runs in the frame (of one setting).

    Runs need not be evaluated at exactly the same steps: each is interpolated at the epochs of the run with
    the most evaluations, and is absent where it is not evaluated within half an interval (not yet, or
    failed).
    NaN counts as infinity, so that a diverged run does not drop out of the mean.

    Returns:
        A row per epoch: `epoch`, `mean`, `sd` (n - 1; NaN for one run), `lowest` and `highest` of the runs,
        `runs` (how many are there).
    """
    rows = frame[(frame["metric"] == metric) & (frame["replicate"] == 0)].sort_values("step")
    runs = [run.drop_duplicates("step", keep="last") for _, run in rows.groupby(ID)]
    if not runs:
        names = ("epoch", "mean", "sd", "lowest", "highest", "runs")
        return pd.DataFrame({name: [] for name in names}, dtype=float)
    grid = max(runs, key=len)["epoch"].to_numpy()
    reach = np.median(np.diff(grid)) / 2 if len(grid) > 1 else np.inf
    values = np.empty((len(runs), len(grid)))
    for row, run in zip(values, runs, strict=True):
        epoch = run["epoch"].to_numpy()
        row[:] = np.interp(grid, epoch, run["value"].to_numpy())
        row[np.isnan(row)] = np.inf  # NaN, or between infinity and a number
        row[(grid < epoch[0] - reach) | (grid > epoch[-1] + reach)] = np.nan
    aligned = pd.DataFrame(values.T)
    # Infinity minus infinity: a diverged run leaves no spread to draw.
    diverged = aligned.isin([np.inf]).any(axis=1)
    spread = aligned.replace(np.inf, np.nan).std(axis=1).mask(diverged)
    return pd.DataFrame(
        {
            "epoch": grid,
            "mean": aligned.mean(axis=1),
            "sd": spread,
            "lowest": aligned.min(axis=1),
            "highest": aligned.max(axis=1),
            "runs": aligned.count(axis=1),
        }
    )


def _choice(options: pd.DataFrame, group: str) -> pd.Series:
    """The choice of a group (`truncation`) in each run, `unknown` where a run has none."""
    if group not in options:
        return pd.Series("unknown", index=options.index, name=group)
    return options[group].astype(str).where(options[group].notna(), "unknown")


def _is_setting(name: str) -> bool:
    top = name.split(".")[0]
    return not (name in NOT_SETTINGS or top in {"truncation", "device"} or name.endswith("_dir"))


def _varies(options: pd.DataFrame, name: str) -> bool:
    values, group = options[name], name.split(".")[0]
    within = group if name != group and group in options else "truncation"
    if within == "truncation" and len(values.dropna().unique()) > 1:
        return True
    return any(len(own.unique()) > 1 for _, own in values.groupby(_choice(options, within)))
