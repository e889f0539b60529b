from __future__ import annotations

import io
import json
import logging
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atbptt.runs.schema import (
    GRADIENTS,
    GRADIENTS_SCHEMA,
    METRICS,
    METRICS_SCHEMA,
    OPTIONS_JSON,
    PREDICTIONS,
    PREDICTIONS_SCHEMA,
)
from atbptt.runs.tables import SCHEMAS, Tables, is_later, serialised, serialised_options

LOG = logging.getLogger(__name__)


def rows(step: int) -> pa.Table:
    row = {"experiment_id": "a", "step": step, "epoch": 0.0, "adaptive_epoch": 0.0, "updates": 0, "train_seconds": 0.0}
    return pa.Table.from_pylist([{**row, "metric": "K", "replicate": 0, "value": 1.0}], schema=METRICS_SCHEMA)


def predictions(step: int, count: int) -> pa.Table:
    row = {"experiment_id": "a", "step": step, "epoch": 0.0, "stream": 0, "quantity": "symbol", "target": 1.0}
    made = [{**row, "position": position, "predicted": 2.0} for position in range(count)]
    return pa.Table.from_pylist(made, schema=PREDICTIONS_SCHEMA)


def steps(path: Path) -> list[int]:
    return list(pq.read_table(path)["step"].to_pylist())


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    made = Tables(tmp_path)
    made.append(GRADIENTS, GRADIENTS_SCHEMA.empty_table())
    for step in (0, 10):
        made.append(METRICS, rows(step))
    return made


@pytest.mark.usefixtures("tables")
def test_rows_are_appended_in_the_schema(tmp_path: Path) -> None:
    assert steps(tmp_path / METRICS) == [0, 10]
    assert pq.read_table(tmp_path / METRICS).schema.equals(METRICS_SCHEMA)


@pytest.mark.parametrize("damage", ["half", "empty", "zeroed", "gone", "later rows"])
def test_what_a_file_held_is_restored(
    tables: Tables, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = tables.content()
    path = tmp_path / METRICS
    if damage == "later rows":
        tables.append(METRICS, rows(20))
    elif damage == "gone":
        path.unlink()
    else:
        whole = content[METRICS]
        zeroed = whole[:40] + bytes(100) + whole[140:]
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "zeroed": zeroed}[damage])
    again = Tables(tmp_path)
    assert is_later(path, pq.read_table(io.BytesIO(content[METRICS]))) is (damage == "later rows")
    again.restore(content, LOG)
    assert steps(path) == [0, 10]
    assert path.read_bytes() == content[METRICS]
    assert ("metrics.parquet is missing or damaged" in caplog.text) is (damage != "later rows")
    again.append(METRICS, rows(15))
    assert steps(path) == [0, 10, 15]


def test_what_is_whole_is_not_written_again(tables: Tables, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    Tables(tmp_path).restore(tables.content(), LOG)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_before_the_first_evaluation_there_is_nothing_to_restore(tmp_path: Path) -> None:
    Tables(tmp_path).restore({}, LOG)
    assert list(tmp_path.iterdir()) == []


def test_rows_take_the_place_of_others_and_come_back(tables: Tables, tmp_path: Path) -> None:
    tables.replace(PREDICTIONS, predictions(0, count=5))
    tables.replace(PREDICTIONS, predictions(10, count=3))
    path = tmp_path / PREDICTIONS
    assert steps(path) == [10] * 3
    again = Tables(tmp_path)
    again.restore(tables.content(), LOG)
    again.replace(PREDICTIONS, predictions(20, count=3))
    assert steps(path) == [20] * 3


def test_as_many_rows_of_a_later_step_are_no_damage(
    tables: Tables, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that ended between a better evaluation and the checkpoint after it."""
    tables.replace(PREDICTIONS, predictions(0, count=3))
    content = tables.content()
    tables.replace(PREDICTIONS, predictions(10, count=3))
    Tables(tmp_path).restore(content, LOG)
    assert steps(tmp_path / PREDICTIONS) == [0] * 3
    assert caplog.text == ""


def test_a_file_that_a_checkpoint_does_not_know_came_later_and_goes(tables: Tables, tmp_path: Path) -> None:
    content = tables.content()
    tables.replace(PREDICTIONS, predictions(10, count=3))
    Tables(tmp_path).restore(content, LOG)
    assert not (tmp_path / PREDICTIONS).exists()
    assert steps(tmp_path / METRICS) == [0, 10]


def test_one_altered_bit_is_damage_wherever_it_is(tables: Tables, tmp_path: Path) -> None:
    """Also in the column of steps, where it might pass for a later row."""
    path = tmp_path / METRICS
    whole = path.read_bytes()
    table = pq.read_table(path)
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert not is_later(path, table)
    assert steps_of(tables) == [0, 10]


def steps_of(tables: Tables) -> list[int]:
    return list(pq.read_table(io.BytesIO(tables.content()[METRICS]))["step"].to_pylist())


@pytest.mark.parametrize("columns", SCHEMAS.values())
def test_a_file_has_its_schema_without_arrows_help(columns: pa.Schema) -> None:
    assert pq.read_table(io.BytesIO(serialised(columns.empty_table()))).schema.equals(columns)


def test_options_stand_in_columns_and_once_more_in_the_footer_and_agree() -> None:
    options = {
        "experiment_id": "00012e500000", "lr": 1.0, "truncation.K": 10, "probe.fit_from": None, "model.tied": True,
        "model.sizes": "[1, 0.5]", "clip_norm": math.inf, "dataset.noise": math.nan, "model.name": "Grüße \"x\" true",
    }  # fmt: skip
    content = serialised_options(options)
    (row,) = pq.read_table(io.BytesIO(content)).to_pylist()
    stored = json.loads(pq.read_metadata(io.BytesIO(content)).metadata[OPTIONS_JSON])
    assert {name: (type(value), repr(value)) for name, value in stored.items()} == {
        name: (type(value), repr(value)) for name, value in row.items()
    }
    assert repr(stored) == repr(options)
