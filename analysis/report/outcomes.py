"""The outcome of each run: its state, its best evaluation, its last one."""

from collections.abc import Sequence

import pandas as pd

from analysis.statistics import ID, best_validation, policies, validation_metrics
from atbptt.errors import AnalysisError
from atbptt.monitor import Run
from atbptt.runs import UNKNOWN

BEST = ["metric", "step", "epoch", "valid", "test", "K"]
LAST = ["first_step", "last_step", "last_valid", "evaluations"]


def outcomes(frame: pd.DataFrame, options: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    """The state and the best evaluation of each run in `options`, best first; the frame of metrics may be empty.

    - `experiment_id`, `dataset`, `policy`, `init`, `label` (of the run in its sweep), `state`, `epochs` (budget);
    - `metric`, `step`, `epoch`, `valid`, `test`, `K` (steps): as from `best_validation`, null without one;
    - `rank`: among the runs of the same data set and metric, 1 is the best; equal ones share the better rank;
    - `evaluations` (of the validation metric, after training began), `first_step` and `last_step` (of all of them),
      `last_valid`, `last_K` (steps, in use at the end), `reached` (epochs so far), `train_seconds` (s).
    """
    # Of a run that is in two folders the longer one counts, as for its metrics.
    known = {run.last.experiment_id: run for run in sorted(runs, key=lambda run: run.last.epoch or 0.0)}
    own = [known.get(identity) for identity in options[ID]]
    named = options.reindex(columns=["dataset", "init"]).astype(object)
    rows = pd.DataFrame(
        {
            ID: options[ID],
            "dataset": named["dataset"].where(named["dataset"].notna(), "unknown").astype(str),
            "policy": policies(options).astype(str),
            "init": named["init"],
            "label": [run.label if run else "" for run in own],
            "state": [run.status.state if run else UNKNOWN for run in own],
            "epochs": [run.last.epochs if run else None for run in own],
            "status_seconds": [run.last.train_seconds if run else None for run in own],
        }
    ).astype({"epochs": float, "status_seconds": float})
    rows = rows.merge(_evaluations(frame), on=ID, how="left")
    # A run stores its status more often than it evaluates.
    rows["train_seconds"] = rows.pop("status_seconds").fillna(rows["train_seconds"])
    keys = ["dataset", "metric"]
    rows["rank"] = rows.groupby(keys, observed=True)["valid"].rank(method="min")
    return rows.sort_values([*keys, "rank", "label", ID], kind="stable", ignore_index=True)


def _evaluations(frame: pd.DataFrame) -> pd.DataFrame:
    """The progress of each run, its best evaluation and its last one."""
    ends = frame.groupby(ID, observed=True).agg(reached=("epoch", "max"), train_seconds=("train_seconds", "max"))
    ends["last_K"] = _last(frame[frame["metric"] == "K"])["value"]
    try:
        metrics, best = validation_metrics(frame), best_validation(frame)[[ID, *BEST]]
    except AnalysisError:  # nothing is evaluated yet
        empty = ends.reindex(columns=[*ends, *BEST, *LAST]).fillna({"evaluations": 0})
        return empty.reset_index()
    valid = frame[frame["metric"].isin(metrics.unique())]
    valid = valid[valid["metric"].astype(str) == valid[ID].map(metrics.astype(str))]
    last = _last(valid)
    ends["first_step"] = valid.groupby(ID, observed=True)["step"].min()
    ends["last_step"], ends["last_valid"] = last["step"], last["value"]
    ends["evaluations"] = valid[valid["step"] > 0].groupby(ID, observed=True)["step"].nunique()
    return ends.fillna({"evaluations": 0}).reset_index().merge(best.astype({"metric": str}), on=ID, how="left")


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run."""
    return rows.sort_values("step", kind="stable").drop_duplicates(ID, keep="last").set_index(ID)
