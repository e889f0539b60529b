from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atbptt.schema import GRADIENTS, GRADIENTS_SCHEMA, METRICS, METRICS_SCHEMA
from atbptt.tables import Tables, rows_of

LOG = logging.getLogger(__name__)


def rows(step: int) -> pa.Table:
    row = {"experiment_id": "a", "step": step, "epoch": 0.0, "adaptive_epoch": 0.0, "updates": 0, "train_seconds": 0.0}
    return pa.Table.from_pylist([{**row, "metric": "K", "replicate": 0, "value": 1.0}], schema=METRICS_SCHEMA)


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
    assert (rows_of(path) == 3) is (damage == "later rows")
    again.restore(content, LOG)
    assert rows_of(path) == 2
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
