"""Means over initialisations: of every setting, and of the one that did best for each policy."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from atbptt.errors import AnalysisError
from atbptt.runs.schema import DIVERGED as DIVERGED_METRIC

from .ending import BETTER_FIRST, COMPLETE, endings
from .options import (
    GROUPED,
    ID,
    check_replicates,
    choice,
    conditions,
    described,
    options_of,
    settings,
)
from .uncertainty import estimates
from .validation import (
    COMPANIONS,
    best_validation,
    is_perplexity,
    of_test,
    rows_of,
    validation_metrics,
)

COSTS = ("processor_seconds", "peak_memory_mb", "peak_gpu_memory_mb")  # metrics of what a run has cost so far
# Metrics that tables show or remark on, beside validation and test.
SHOWN = ("K", "lr", "mean_K", "steps_per_second", "steps_per_compute_second", DIVERGED_METRIC, *COSTS)


@dataclass(frozen=True, eq=False)
class Group:
    experiment: str
    dataset: str
    metric: str  # valid_...
    runs: pd.DataFrame  # as from `load`, of the metrics that a table shows

    @property
    def name(self) -> str:
        """A word for files and labels: `published_ptb_ppl`."""
        parts = [self.dataset, self.metric.removeprefix("valid_")]
        return "_".join(parts if self.experiment in ("unknown", self.dataset) else [self.experiment, *parts])

    @property
    def keys(self) -> dict[str, str]:
        """What all its runs have in common."""
        return {"experiment": self.experiment, "dataset": self.dataset, "metric": self.metric}

    @cached_property
    def options(self) -> pd.DataFrame:
        """A row per run, see `options_of`."""
        return options_of(self.runs)

    @cached_property
    def names(self) -> list[str]:
        """The columns that tell settings apart: `policy` and `settings`."""
        return ["policy", *settings(self.options)]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per setting, see `summarize`."""
        return summarize(self.runs, self.metric)

    @cached_property
    def standing(self) -> pd.DataFrame:
        """The runs by which policies are compared, see `standing`."""
        return standing(self.runs, self.metric)

    @cached_property
    def endings(self) -> pd.DataFrame:
        """A row per run, see `endings`."""
        return endings(self.runs, self.metric)


def comparable(frame: pd.DataFrame, metric: str | None = None) -> Iterator[Group]:
    """Groups of runs whose values can be compared: of one experiment and dataset, by one validation metric.

    Runs without a finite value are left out, and so are metrics that no table of results shows.

    Raises:
        AnalysisError: as `validation_metrics`, or no run has a finite value.
    """
    chosen = validation_metrics(frame, metric)
    names = chosen.unique()
    finite = rows_of(frame, names, [ID, "metric", "value"])
    finite = finite[np.isfinite(finite["value"])]
    own = set(finite.loc[finite["metric"] == finite[ID].map(chosen), ID])
    if not own:
        raise AnalysisError(f"no finite {metric or 'validation loss'} in any of {frame[ID].nunique()} runs")
    # First, since each row has all options.
    frame = frame[frame["metric"].isin([*names, *map(of_test, names), *SHOWN, *COMPANIONS])]
    options = options_of(frame)
    options = options[options[ID].isin(own)]
    keys = [choice(options, "name"), choice(options, "dataset"), options[ID].map(chosen)]
    for (experiment, dataset, name), runs in options.groupby(keys, sort=True):
        yield Group(str(experiment), str(dataset), str(name), frame[frame[ID].isin(runs[ID])])


def summarize(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The best validation of each setting, and the test value there, over initialisations; see `best_validation`.

    Only runs that count make a mean, see `endings`: as a rule those that finished and did not diverge.

    Returns:
        A row per setting, sorted by experiment and dataset if they vary, then complete ones first, then by validation:
        `policy`, each option in `settings`, `metric`, `runs` (that count), `of` (all that were evaluated), `ending` (of
        those that count), `valid_mean`, `valid_sd`, `valid_low`, `valid_high` (see `estimates`), the same of `test`
        and, where logged, of `test_event_error` and `test_time_rmse`; `K_mean` (steps), `epoch_mean`,
        `lr_in_force_mean`; where logged `processor_seconds_mean`, `peak_memory_mb_mean`, `peak_gpu_memory_mb_mean`, at
        the last evaluation.

        For each policy, `chosen` marks the setting that did best under the same `conditions`: the lowest validation of
        those all of whose runs are complete, if there are any, else of those with some: else a lucky survivor would
        decide. `tried` is the number of settings it was chosen from, `edge` the options that vary among these of which
        it has the smallest or largest value.

    Raises:
        AnalysisError: as `best_validation` and `check_replicates`.
    """
    options = options_of(frame)
    check_replicates(options)
    runs = described(frame)
    keys: list[Hashable] = [*runs.columns.drop(ID), "metric"]
    every = _evaluated(frame, metric)
    every["place"] = every["ending"].map(BETTER_FIRST.index)
    every["lost"] = ~every["counts"] | (every["ending"] != COMPLETE)
    best = every[every["counts"]]
    summary = grouped(best, keys, ["valid", "test"], [name for name in COMPANIONS if name in best])
    costs = [name for name in COSTS if name in best]
    means = best.groupby(keys, **GROUPED)[["K", "epoch", "lr_in_force", *costs]].mean().add_suffix("_mean")
    summary = summary.join(means.reset_index(drop=True))
    summary[["ending", "place"]] = best.groupby(keys, **GROUPED)[["ending", "place"]].first().to_numpy()
    all_runs = every.groupby(keys, **GROUPED)["lost"].agg(["size", "any"]).reset_index()
    summary = summary.merge(all_runs.rename(columns={"size": "of", "any": "unstable"}), on=keys)
    names = [name for name in ("name", "dataset") if name in runs]
    summary = summary.sort_values([*names, "metric", "place", "valid_mean"], kind="stable", ignore_index=True)
    return _with_choice(summary, conditions(options), settings(options)).drop(columns=["place", "unstable"])


def _with_choice(summary: pd.DataFrame, fixed: list[str], names: list[str]) -> pd.DataFrame:
    groups: list[Hashable] = ["policy", "metric", *fixed]
    order = summary.sort_values(["place", "unstable", "valid_mean"], kind="stable")
    summary["chosen"] = ~order.duplicated(groups)
    summary["tried"] = summary.groupby(groups, **GROUPED)["policy"].transform("size")
    edges = pd.Series("", index=summary.index)
    for name in (name for name in names if name not in fixed):
        values = summary[name]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            of_policy = values.groupby([summary[key] for key in groups], **GROUPED)
            low, high = of_policy.transform("min"), of_policy.transform("max")
            at = ((low < high) & ((values == low) | (values == high))).fillna(False).astype(bool)
            edges = edges.where(~at, edges + f", {name}")
    return summary.assign(edge=edges.str.removeprefix(", "))


def standing(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The runs by which policies are compared: of each policy the chosen setting, if it is complete; see `summarize`.

    Returns:
        A row per run: the columns of `best_validation`, `policy`, each option in `settings`, `init` (null if unknown).
    """
    summary = summarize(frame, metric)
    names = [*described(frame).columns.drop(ID), "metric"]
    chosen = summary.loc[summary["chosen"] & (summary["ending"] == COMPLETE), names]
    runs = _evaluated(frame, metric)
    return runs[runs["counts"]].drop(columns=["ending", "counts"]).merge(chosen, on=names)


def _evaluated(frame: pd.DataFrame, metric: str | None) -> pd.DataFrame:
    """A row per run: its best evaluation, what tells it apart, its `init` (null if unknown), how it ended."""
    inits = options_of(frame).reindex(columns=[ID, "init"])
    ends = endings(frame, metric)[[ID, "ending", "counts"]]
    runs = best_validation(frame, metric).merge(described(frame), on=ID).merge(inits, on=ID).merge(ends, on=ID)
    return runs.merge(costs(frame), on=ID, how="left")


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per run that logs any of `COSTS`: `experiment_id`, and the value of each at its last evaluation."""
    rows = rows_of(frame, COSTS, [ID, "metric", "step", "value"]).astype({"metric": str})
    last = rows.sort_values("step", kind="stable").drop_duplicates([ID, "metric"], keep="last")
    return last.pivot_table("value", ID, "metric").rename_axis(columns=None).reset_index()


def grouped(
    frame: pd.DataFrame, keys: list[Hashable], measures: list[str], others: list[str] | None = None
) -> pd.DataFrame:
    """The keys, among them `metric`, `runs` (rows), and `estimates` of some columns in each group of equal keys.

    Null is a key too. Of `measures` that are perplexities the interval is that of the logarithm.
    """
    groups = frame.groupby(keys, **GROUPED)
    numbers = groups.ngroup().to_numpy()
    result = groups.size().rename("runs").reset_index()
    for column in [*measures, *(others or [])]:
        values = frame[column].to_numpy(float)
        parts = estimates(values, numbers, len(result))
        log = result["metric"].map(is_perplexity).astype(bool)
        if column in measures and log.any():
            parts[log] = estimates(values, numbers, len(result), log=True)[log]
        result = result.join(parts.drop(columns="n").add_prefix(f"{column}_"))
    return result
