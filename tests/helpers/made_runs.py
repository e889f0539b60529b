"""Frames made by hand: metrics of a small sweep, lag profiles, predictions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.loading import Results
from analysis.statistics import options_of
from analysis.tables.cells import Table
from atbptt.runs.schema import FINISHED

OPTIONS = {
    "dataset": "copy",
    "lr": 1.0,
    "init": 0,
    "truncation": "fixed",
    "truncation.K": 5,
    "truncation.delta": None,
    "probe.tau": 3,
    "probe.fit_from": None,
}


def run(experiment_id: str, metrics: Mapping[str, Sequence[float]], **options: Any) -> pd.DataFrame:
    """A frame as from `load`: a value an epoch from epoch 0, steps of 100; `truncation__K` is `truncation.K`."""
    rows = [
        (experiment_id, 100 * epoch, float(epoch), 1.5 * epoch, 20 * epoch, 2.0 * epoch, metric, 0, value)
        for metric, values in metrics.items()
        for epoch, value in enumerate(values)
    ]
    names = ["step", "epoch", "adaptive_epoch", "updates", "train_seconds", "metric", "replicate", "value"]
    frame = pd.DataFrame(rows, columns=["experiment_id", *names])
    return frame.assign(**{**OPTIONS, **{name.replace("__", "."): value for name, value in options.items()}})


def sweep(*runs: pd.DataFrame) -> pd.DataFrame:
    """The frames of some runs as one, with options of the types that `load` gives."""
    frame = pd.concat(runs, ignore_index=True)
    types = {"init": "Int64", "truncation.K": "Int64", "truncation.delta": "float64", "probe.fit_from": "Int64"}
    return frame.astype({name: kind for name, kind in types.items() if name in frame})


def results(
    *runs: pd.DataFrame, folder: str = "runs", states: Mapping[str, str] | None = None, **tables: Any
) -> Results:
    """Results in memory, of runs that have finished but for some `states`; other tables by the name of their method."""
    frame = sweep(*runs)
    states = dict.fromkeys(frame["experiment_id"].unique(), FINISHED) | {**(states or {})}
    directories = [f"{folder}/{run}" for run in states]
    status = pd.DataFrame({"experiment_id": [*states], "state": [*states.values()], "directory": directories})
    options = options_of(frame)
    last = frame.groupby("experiment_id")["epoch"].max()
    status["epoch"] = status["experiment_id"].map(last)
    budgets = options.reindex(columns=["experiment_id", "epochs"]).set_index("experiment_id")["epochs"]
    status["epochs"] = status["experiment_id"].map(budgets)

    def rows_of(name: str) -> Callable[[Iterable[str]], pd.DataFrame]:
        table = tables.get(name, gradients("none").iloc[:0].assign(position=0, quantity=""))
        return lambda ids: table[table["experiment_id"].isin([*ids])]

    stored = {name: rows_of(name) for name in ("gradients", "positions", "predictions")}
    order = [*options["experiment_id"]]
    made = SimpleNamespace(frame=frame, status=status, options=options, order=order, searches=[], **stored)
    return cast(Results, made)


def fixed_and_adaptive() -> pd.DataFrame:
    """Fixed K=5 with two inits (best 1.2 and 1.4), adaptive delta=0.9 with one (best 1.1)."""
    adaptive = {"truncation": "adaptive", "truncation__K": None, "truncation__delta": 0.9}
    return sweep(
        run("a", {"valid_ppl": [6.0, 1.5, 1.2, 1.3], "K": [5] * 4, "log_relative_bias": np.log([2, 2, 2, 2])}),
        run("b", {"valid_ppl": [6.0, 1.9, 1.6, 1.4], "K": [5] * 4, "log_relative_bias": np.log([8, 8, 8, 8])}, init=1),
        run("c", {"valid_ppl": [6.0, 1.4, 1.1, 1.1], "K": [9, 9, 7, 6], "log_relative_bias": [0.0] * 4}, **adaptive),
    )


def gradients(experiment_id: str, lags: int = 6, evaluations: int = 3, beta: float = 0.5) -> pd.DataFrame:
    """phi = (evaluation + 1) beta^lag of `all` and hidden0, two probes of which the second has thrice the phi."""
    rows = [
        (experiment_id, 100 * number, float(number), replicate, component, lag, factor * (number + 1) * beta**lag)
        for number in range(evaluations)
        for replicate, factor in enumerate((1, 3))
        for component in ("all", "hidden0")
        for lag in range(1, lags + 1)
    ]
    frame = pd.DataFrame(rows, columns=["experiment_id", "step", "epoch", "replicate", "component", "lag", "phi"])
    return frame.assign(signal_to_noise=frame["lag"] * frame["phi"])


def positions(experiment_id: str, lags: int = 6, evaluations: int = 3, beta: float = 0.5) -> pd.DataFrame:
    """phi = beta^lag of the position 9, which has all lags, and twice that of 7, which has two fewer."""
    rows = [
        (experiment_id, 100 * number, float(number), 0, position, lag, factor * beta**lag)
        for number in range(evaluations)
        for position, factor, last in ((7, 2, lags - 2), (9, 1, lags))
        for lag in range(1, last + 1)
    ]
    return pd.DataFrame(rows, columns=["experiment_id", "step", "epoch", "replicate", "position", "lag", "phi"])


def predictions(
    experiment_id: str, quantity: str, target: Sequence[float], predicted: Sequence[float], stream: int = 0
) -> pd.DataFrame:
    """One stream of one quantity."""
    frame = pd.DataFrame({"position": range(len(target)), "quantity": quantity, "stream": stream, "step": 100})
    values = {"target": np.asarray(target, float), "predicted": np.asarray(predicted, float)}
    return frame.assign(experiment_id=experiment_id, epoch=1.0, **values)


def texts(table: Table) -> list[list[str]]:
    """The headings of a table, then the texts of its cells by row."""
    return [[column.heading for column in table.columns], *([cell.text for cell in row] for row in table.rows)]
