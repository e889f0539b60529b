"""Settings, the best validation of a run, means over initialisations."""

import re
from collections.abc import Collection, Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.statistics.uncertainty import estimates
from atbptt.errors import AnalysisError, unknown
from atbptt.runs.schema import ID as ID, METRICS_SCHEMA

# The parameter that a policy's label always shows.
KEY_OF_POLICY = {
    "fixed": "K",
    "adaptive": "delta",
    "full": "window",
    "randomized": "length",
    "variable": "base",
    "warmup": "K_final",
}
COMPANIONS = ("test_event_error", "test_time_rmse")  # shown beside the test value
GROUPED: dict[str, Any] = {"dropna": False, "sort": False, "observed": True}
# Options that do not make a setting: replicates, budget, where a run ran.
NOT_SETTINGS = {ID, "init", "epochs", "seconds", "device", "monitor"}


def options_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The options in a frame from `load`: a row per run, without the columns of the metrics."""
    metrics = {*METRICS_SCHEMA.names} - {ID}
    options = frame.loc[~frame[ID].duplicated(), [name for name in frame.columns if name not in metrics]]
    categories = options.select_dtypes("category")
    return options.astype({name: categories[name].cat.categories.dtype for name in categories}).reset_index(drop=True)


def settings(options: pd.DataFrame) -> list[str]:
    """The options, besides the truncation policy, that differ between runs; `options` is as from `load_options`.

    `init` (a replicate), the budget, paths and the device never count. An option of a group (`model.hidden`) counts if
    it differs between runs with the same choice (`model`). An option that only some policies have counts if it differs
    between the runs that have it, or within a policy.
    """
    return [name for name in options.columns if _is_setting(options, name)]


def policies(options: pd.DataFrame) -> pd.Series:
    """The truncation policy of each run: `fixed K=5`, `adaptive delta=0.9`. Indexed like `options`.

    The policy's key parameter, which only built-in policies have, comes first; then its options that differ between its
    runs.
    """
    names = _choice(options, "truncation")
    labels = names.copy()
    own = [column for column in options.columns if column.startswith("truncation.")]
    if "truncation.seed" in own and "seed" in options:
        drawn = options[options["truncation.seed"].notna()]
        if (drawn["truncation.seed"] == drawn["seed"]).all():
            own.remove("truncation.seed")  # the run's `seed`, a setting itself
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


def described(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per run: `experiment_id`, `policy`, and each option in `settings`."""
    options = options_of(frame)
    return options[[ID]].assign(policy=policies(options)).join(options[settings(options)])


def format_value(value: object) -> str:
    """A value as it is typed: 5, 0.9, 1e-05, lstm; `-` for null. Different values look different."""
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


class Group(NamedTuple):
    experiment: str
    dataset: str
    metric: str  # valid_...
    runs: pd.DataFrame  # as from `load`, of the metrics that a table shows

    @property
    def name(self) -> str:
        """A word for files and labels: `published_ptb_ppl`."""
        parts = [self.dataset, self.metric.removeprefix("valid_")]
        return "_".join(parts if self.experiment in ("unknown", self.dataset) else [self.experiment, *parts])


def comparable(frame: pd.DataFrame, metric: str | None = None) -> Iterator[Group]:
    """Groups of runs whose values can be compared: of one experiment and dataset, by one validation metric.

    Runs without a finite value are left out, and so are metrics that no table of results shows.

    Raises:
        AnalysisError: as `validation_metrics`, or no run has a finite value.
    """
    chosen = validation_metrics(frame, metric)
    names = chosen.unique()
    finite = _rows(frame, names, [ID, "metric", "value"])
    finite = finite[np.isfinite(finite["value"])]
    own = set(finite.loc[finite["metric"] == finite[ID].map(chosen), ID])
    if not own:
        raise AnalysisError(f"no finite {metric or 'validation loss'} in any of {frame[ID].nunique()} runs")
    # First, since each row has all options.
    frame = frame[frame["metric"].isin([*names, *map(_test, names), "K", *COMPANIONS])]
    options = options_of(frame)
    options = options[options[ID].isin(own)]
    keys = [_choice(options, "name"), _choice(options, "dataset"), options[ID].map(chosen)]
    for (experiment, dataset, name), runs in options.groupby(keys, sort=True):
        yield Group(str(experiment), str(dataset), str(name), frame[frame[ID].isin(runs[ID])])


def best_validation(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The evaluation of each run with the lowest validation value; the earliest if several are equal.

    Arguments:
        frame: metrics, as from `load` or `load_metrics`.
        metric: a `valid_...` metric, lower is better; by default see `validation_metrics`.

    Returns:
        A row per run that has a finite value: `experiment_id`, `metric`, `step` (training steps), `epoch`, `valid`, and
        at the same evaluation `test` (of the same measure) and `K` (steps), NaN if not logged, and where logged
        `test_event_error` and `test_time_rmse`.

    Raises:
        AnalysisError: as `validation_metrics`.
    """
    chosen = validation_metrics(frame, metric)
    names = chosen.unique()
    others = ["K", *(name for name in COMPANIONS if (frame["metric"] == name).any())]
    rows = _rows(frame, [*names, *map(_test, names), *others], [ID, "metric", "step", "epoch", "value"])
    valid = rows[(rows["metric"] == rows[ID].map(chosen)) & np.isfinite(rows["value"])]
    valid = valid.sort_values([ID, "step"], kind="stable", ignore_index=True)
    best = valid.loc[valid.groupby(ID, sort=False)["value"].idxmin()].rename(columns={"value": "valid"})
    best["metric"] = best[ID].map(chosen)  # text, even if the frame has categories
    tests = rows[rows["metric"] == rows[ID].map(chosen.map(_test))]
    at_best = {"test": tests, **{name: rows[rows["metric"] == name] for name in others}}
    for column, logged in at_best.items():
        values = logged.drop_duplicates([ID, "step"], keep="last")[[ID, "step", "value"]]
        best = best.merge(values.rename(columns={"value": column}), on=[ID, "step"], how="left")
    return best.reset_index(drop=True)


def summarize(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The best validation of each setting, and the test value there, over initialisations; see `best_validation`.

    Returns:
        A row per setting, sorted by experiment and dataset if they vary, then by validation: `policy`, each option in
        `settings`, `metric`, `runs` (with a finite value), `valid_mean`, `valid_sd`, `valid_low`, `valid_high` (see
        `estimates`), the same of `test` and, where logged, of `test_event_error` and `test_time_rmse`; `K_mean`
        (steps), `epoch_mean`.
    """
    runs = described(frame)
    best = best_validation(frame, metric).merge(runs, on=ID)
    keys: list[Hashable] = [*runs.columns.drop(ID), "metric"]
    summary = grouped(best, keys, ["valid", "test", *(name for name in COMPANIONS if name in best)])
    summary[["K_mean", "epoch_mean"]] = best.groupby(keys, **GROUPED)[["K", "epoch"]].mean().to_numpy()
    order = [*(name for name in ("name", "dataset") if name in runs), "metric", "valid_mean"]
    return summary.sort_values(order, kind="stable", ignore_index=True)


def grouped(frame: pd.DataFrame, keys: list[Hashable], columns: list[str]) -> pd.DataFrame:
    """The keys, `runs` (rows) and `estimates` of some columns in each group of equal keys; null is a key too."""
    groups = frame.groupby(keys, **GROUPED)
    numbers = groups.ngroup().to_numpy()
    result = groups.size().rename("runs").reset_index()
    for column in columns:
        parts = estimates(frame[column].to_numpy(float), numbers, len(result)).drop(columns="n")
        result = result.join(parts.add_prefix(f"{column}_"))
    return result


def _rows(frame: pd.DataFrame, names: Collection[str], columns: list[str]) -> pd.DataFrame:
    """The rows of these metrics; of those that probes measure, the first probe's."""
    return frame.loc[frame["metric"].isin(names) & (frame["replicate"] == 0), columns]


def _test(metric: str) -> str:
    return metric.replace("valid_", "test_", 1)


def _choice(options: pd.DataFrame, group: str) -> pd.Series:
    """The choice of a group (`truncation`) in each run, or `unknown`."""
    if group not in options:
        return pd.Series("unknown", index=options.index, name=group)
    return options[group].astype(str).where(options[group].notna(), "unknown")


def _is_setting(options: pd.DataFrame, name: str) -> bool:
    values, group = options[name], name.split(".")[0]
    if name in NOT_SETTINGS or group in {"truncation", "device"} or name.endswith("_dir"):
        return False
    within = group if name != group and group in options else "truncation"
    if within == "truncation" and len(values.dropna().unique()) > 1:
        return True
    return any(len(own.unique()) > 1 for _, own in values.groupby(_choice(options, within)))
