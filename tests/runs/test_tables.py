import io
import json
import logging
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atbptt.runs.schema import GRADIENTS, METRICS, OPTIONS_JSON, POSITIONS, PREDICTIONS, READINGS, SCHEMAS
from atbptt.runs.tables import Tables, serialised, serialised_options

LOG = logging.getLogger(__name__)
CLOCK = {"epoch": 0.5, "adaptive_epoch": 0.5, "updates": 3, "train_seconds": 1.5, "compute_seconds": 0.5}


def add(tables: Tables, name: str, step: int) -> None:
    """Two rows, one value of which is NaN."""
    columns: dict[str, Any] = {
        METRICS: {"metric": ["K", "lr"], "replicate": [0, 1], "value": [float(step), math.nan]},
        POSITIONS: {"replicate": [0, 0], "position": [3, 3], "lag": [1, 2], "phi": [0.5, math.nan]},
        GRADIENTS: {
            **{"replicate": [0, 0], "component": ["all"] * 2, "lag": [1, 2], "phi": [1.0, 0.5]},
            **{each: [float(step), math.nan] for each in ("kept_of_mean", *READINGS)},
        },
        PREDICTIONS: {
            "stream": [0, 0],
            "position": [0, 1],
            "quantity": ["symbol"] * 2,
            "target": [1, 2],
            "predicted": [1, 3],
        },
    }[name]
    tables.add(name, columns, {"step": step, **CLOCK})


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    made = Tables(tmp_path, "0a1b")
    for step in (0, 10):
        for name in (METRICS, POSITIONS, PREDICTIONS):
            add(made, name, step)
    return made


@pytest.mark.usefixtures("tables")
def test_rows_have_the_schema_the_clock_and_the_id_and_add_up(tmp_path: Path) -> None:
    """Of predictions the last ones are kept. NaN is a value of metrics, and null elsewhere."""
    found = {name: pq.read_table(tmp_path / name) for name in (METRICS, POSITIONS, PREDICTIONS)}
    for name, table in found.items():
        assert table.schema.equals(SCHEMAS[name])
        assert set(table["experiment_id"].to_pylist()) == {"0a1b"}
        assert table["step"].to_pylist() == ([10] * 2 if name == PREDICTIONS else [0] * 2 + [10] * 2)
    assert found[METRICS]["train_seconds"].to_pylist() == [1.5] * 4
    assert repr(found[METRICS]["value"].to_pylist()) == "[0.0, nan, 10.0, nan]"
    assert found[POSITIONS]["phi"].to_pylist() == [0.5, None] * 2


@pytest.mark.parametrize("name", [METRICS, PREDICTIONS])
@pytest.mark.parametrize("damage", ["half", "one bit", "gone", "later rows"])
def test_what_a_file_held_is_restored(
    tables: Tables, tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = dict(tables.content)
    path = tmp_path / name
    whole = path.read_bytes()
    if damage == "later rows":
        add(tables, name, 20)
    elif damage == "gone":
        path.unlink()
    else:
        flipped = whole[:50] + bytes([whole[50] ^ 4]) + whole[51:]
        path.write_bytes({"half": whole[: len(whole) // 2], "one bit": flipped}[damage])
    again = Tables(tmp_path, "0a1b")
    again.restore(content, LOG)
    assert path.read_bytes() == whole
    message = f"{name} is damaged or lacks rows, and is restored from the checkpoint"
    assert caplog.messages == ([] if damage == "later rows" else [message])
    add(again, name, 15)
    assert pq.read_table(path)["step"].to_pylist() == ([15] * 2 if name == PREDICTIONS else [0, 0, 10, 10, 15, 15])
    assert {other: (tmp_path / other).read_bytes() for other in content} == again.content


def test_unknown_files_go_and_whole_ones_stay(tables: Tables, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    Tables(tmp_path, "0a1b").restore(tables.content, LOG)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    Tables(tmp_path, "0a1b").restore({}, LOG)
    assert list(tmp_path.iterdir()) == []
    assert caplog.text == ""


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
    assert repr(stored) == repr(row) == repr(options)  # which tells 1.0 from 1 and True


def test_rows_of_an_earlier_version_gain_the_columns_that_they_lack(tables: Tables, tmp_path: Path) -> None:
    earlier = pq.read_table(tmp_path / METRICS).drop_columns("compute_seconds")
    tables.restore({METRICS: serialised(earlier)}, LOG)
    add(tables, METRICS, 20)
    table = pq.read_table(tmp_path / METRICS)
    assert table.schema.equals(SCHEMAS[METRICS])
    assert repr(table["compute_seconds"].to_pylist()) == repr([math.nan] * 4 + [0.5] * 2)


def test_profiles_of_an_earlier_version_gain_the_readings_that_they_lack(tables: Tables, tmp_path: Path) -> None:
    add(tables, GRADIENTS, 10)
    later = [name for name in READINGS if name not in ("relative_bias", "measured_bias", "cosine")]
    tables.restore({GRADIENTS: serialised(pq.read_table(tmp_path / GRADIENTS).drop_columns(later))}, LOG)
    add(tables, GRADIENTS, 20)
    table = pq.read_table(tmp_path / GRADIENTS)
    assert table.schema.equals(SCHEMAS[GRADIENTS])
    assert table["cosine"].to_pylist() == [10, None, 20, None]
    assert table["signal"].to_pylist() == [None, None, 20, None]
