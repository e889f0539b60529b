"""The outcome of each run: its state, its ending, its best evaluation."""

import os
from collections.abc import Sequence

import pandas as pd

from atbptt.errors import AnalysisError
from atbptt.monitor import Run
from atbptt.runs import UNKNOWN, RunStatus
from atbptt.runs.schema import FINISHED

from ..loading import own_id
from ..statistics import COMPLETE, ID, best_validation, conditions, costs, endings, format_value, policies

BEST = ["metric", "step", "epoch", "valid", "test", "K"]


def outcomes(
    frame: pd.DataFrame, options: pd.DataFrame, statuses: Sequence[RunStatus], runs: Sequence[Run]
) -> pd.DataFrame:
    """The state and the best evaluation of each run in `options`, best first; the frame of metrics may be empty.

    `statuses` are in the order of `options`; `runs` are those of the monitor.

    - `experiment_id`, `dataset`, `policy`, `init`, `label` (of the run in its sweep), `state`, `epochs` (budget);
    - `metric`, `step`, `epoch`, `valid`, `test`, `K` (steps): as from `best_validation`, null without one;
    - `ending`: as from `endings`, null without an evaluation; `conditions`: their values;
    - `rank`: among the complete runs of the same data set and metric, and under equal conditions (see `conditions`), 1
      is the best; equal ones share the better rank;
    - `evaluations` (after training began), `last_K` (steps, in use at the end), `reached` (epochs so far),
      `train_seconds` (s), and of `COSTS` those that are logged.
    """
    known = {_place(run.last): run for run in runs}
    own = [known.get(_place(status)) for status in statuses]
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
    rows = rows.merge(_evaluations(frame), on=ID, how="left").merge(costs(frame), on=ID, how="left")
    # A run stores its status more often than it evaluates.
    rows["train_seconds"] = rows.pop("status_seconds").fillna(rows["train_seconds"])
    keys = ["dataset", "metric"]
    asked = [options[name].map(format_value) for name in conditions(options) if name != "dataset"]
    rows["conditions"] = pd.concat(asked, axis=1).agg(", ".join, axis=1) if asked else ""
    ranked = rows["valid"].where((rows["ending"] == COMPLETE) & (rows["state"] == FINISHED))
    groups = ranked.groupby([rows[key] for key in (*keys, "conditions")], observed=True)
    rows["rank"] = groups.rank(method="min")
    return rows.sort_values([*keys, "rank", "valid", "label", ID], kind="stable", ignore_index=True)


def _place(status: RunStatus) -> tuple[str, str]:
    """The run's folder, and its id among those of a compacted one."""
    return os.path.normpath(status.directory), own_id(status.experiment_id)


def _evaluations(frame: pd.DataFrame) -> pd.DataFrame:
    """The progress of each run, and its best evaluation."""
    ends = frame.groupby(ID, observed=True).agg(reached=("epoch", "max"), train_seconds=("train_seconds", "max"))
    lengths = frame[frame["metric"] == "K"].sort_values("step", kind="stable")
    ends["last_K"] = lengths.drop_duplicates(ID, keep="last").set_index(ID)["value"]
    after = frame[(frame["step"] > 0) & frame["metric"].astype(str).str.startswith("valid_")]
    ends["evaluations"] = after.groupby(ID, observed=True)["step"].nunique()
    ends = ends.fillna({"evaluations": 0}).reset_index()
    try:
        ended, best = endings(frame)[[ID, "ending"]], best_validation(frame)[[ID, *BEST]]
    except AnalysisError:  # nothing is evaluated yet
        return ends.reindex(columns=[*ends, "ending", *BEST])
    return ends.merge(ended, on=ID, how="left").merge(best.astype({"metric": str}), on=ID, how="left")
