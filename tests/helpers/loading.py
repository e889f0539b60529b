"""The runs of the fixture `sweep`, and what reading them warns of."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import RunsWarning
from atbptt.runs import schema

ID = "experiment_id"
IDS = ["000000000001", "1e5000000000", "abcdefabcdef"]


def problems(caught: pytest.WarningsRecorder) -> list[str]:
    assert len(caught) == 1
    message = caught[0].message
    assert isinstance(message, RunsWarning)
    return message.problems


def write_gradients(directory: Path, components: Sequence[str], lags: Sequence[int] = (1, 2)) -> None:
    """Lag profiles of one evaluation of a run: phi is 0.5 to the power of the lag."""
    row = {ID: directory.name, "step": 100, "epoch": 1.0, "replicate": 0, "kept_of_mean": 1.0}
    rows = [{**row, "component": name, "lag": lag, "phi": 0.5**lag} for name in components for lag in lags]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema.GRADIENTS_SCHEMA), directory / schema.GRADIENTS)
