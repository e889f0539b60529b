import json
from pathlib import Path

import pytest
import torch

from analysis import load
from benchmarks import loading


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "RUNS", 22)
    monkeypatch.setattr(loading, "ROWS", 120)
    monkeypatch.setattr(loading, "MANY", 1)


def test_runs_are_like_real_ones_and_all_different(tmp_path: Path) -> None:
    loading.make_runs(tmp_path)
    frame = load(tmp_path)
    runs = frame.groupby("experiment_id")
    assert runs.size().tolist() == [120] * 22
    assert {"valid_ppl", "K", "log_relative_bias"} <= set(frame["metric"])
    assert len(frame[["truncation", "lr", "init"]].drop_duplicates()) == runs["value"].sum().nunique() == 22
    assert not frame.duplicated(["experiment_id", "step", "metric", "replicate"]).any()


@pytest.mark.slow
def test_rows() -> None:
    made = list(loading.rows(torch.device("cpu"), 1.0))
    assert [row.size for row in made] == ["22 runs of 120 rows"] * 4
    assert [(bool(row.limit), bool(row.against)) for row in made] == [
        (True, False),
        *[(False, False)] * 2,
        (False, True),
    ]
    assert all(row.measured.memory_bytes for row in made)
    json.dumps([row.record() for row in made])


def test_a_call_that_fails_or_reads_too_little_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        loading._measured("1 / 0", "0")
    with pytest.raises(RuntimeError, match="found 1 rows, 2 were expected"):
        loading._measured("[0]", "len(found)", 2)
