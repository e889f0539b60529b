"""Tiny run directories with numbers that can be checked by hand."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atbptt.runs import schema

OPTIONS = {
    "name": "demo",
    "lr": 1.0,
    "seed": 0,
    "init": 0,
    "epochs": None,
    "dataset": "copy_fixed",
    "model": "lstm",
    "model.hidden": 4,
    "truncation": "fixed",
    "truncation.K": 5,
    "output_dir": "outputs",
    "device": "cpu",
}

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(outputs: Path) -> WriteRun:
    """`write_run(id, {metric: values by evaluation}, state, **options)` -> the run's directory.

    Evaluations are an epoch of 100 steps apart; a value that is a list is one value per replicate. An option that is
    None is absent; `truncation__K` stands for `truncation.K`. No metrics file if the metrics are None.
    """

    def write(
        experiment_id: str,
        metrics: Mapping[str, Sequence[Any]] | None = None,
        state: str = schema.FINISHED,
        folder: str = "demo",
        **changed: Any,
    ) -> Path:
        directory = outputs / folder / experiment_id
        directory.mkdir(parents=True)
        options = {**OPTIONS, **{name.replace("__", "."): value for name, value in changed.items()}}
        options = {name: value for name, value in options.items() if value is not None}
        pq.write_table(pa.Table.from_pylist([{"experiment_id": experiment_id, **options}]), directory / schema.OPTIONS)
        (directory / schema.STATUS).write_text(json.dumps({"experiment_id": experiment_id, "state": state}))
        if metrics is not None:
            rows = [
                (experiment_id, 100 * n, float(n), n + 0.5, 20 * n, 0.5, 0.25, metric, replicate, one)
                for metric, values in metrics.items()
                for n, value in enumerate(values, 1)
                for replicate, one in enumerate(value if isinstance(value, list) else [value])
            ]
            records = [dict(zip(schema.METRICS_SCHEMA.names, row, strict=True)) for row in rows]
            pq.write_table(pa.Table.from_pylist(records, schema=schema.METRICS_SCHEMA), directory / schema.METRICS)
        return directory

    return write


@pytest.fixture
def sweep(outputs: Path, write_run: WriteRun) -> Path:
    """Fixed K=5 with two inits, adaptive delta=0.9 with one; returns the folder of all runs.

    Best validation: 1.2 and 1.4 (mean 1.3, sd 0.1414), test there 1.25 and 1.45 (mean 1.35); adaptive 1.1.
    """
    write_run("000000000001", {"valid_ppl": [1.5, 1.2, 1.3], "test_ppl": [1.6, 1.25, 1.0], "K": [5, 5, 5]}, epochs=3.0)
    write_run(
        "1e5000000000", {"valid_ppl": [1.9, 1.6, 1.4], "test_ppl": [2.0, 1.7, 1.45], "K": [5, 5, 5]}, init=1, epochs=3.0
    )
    metrics = {"valid_ppl": [1.4, 1.1, 1.1], "test_ppl": [1.4, 1.12, 1.3], "K": [9, 7, 6], "K_0.9": [[9, 8], [7, 6]]}
    write_run("abcdefabcdef", metrics, truncation="adaptive", truncation__K=None, truncation__delta=0.9, epochs=3.0)
    return outputs
