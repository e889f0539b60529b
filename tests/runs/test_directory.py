from __future__ import annotations

import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from atbptt.runs import schema, tables
from atbptt.runs.directory import BusyError, RunDirectory, read_status
from atbptt.runs.provenance import Origin
from atbptt.system.files import StorageError

ORIGIN = Origin("sweep", {"repositories": []}, ["launch.py"])
LOG = logging.getLogger(__name__)


@pytest.fixture
def directory(settings: Any) -> RunDirectory:
    made = RunDirectory(settings("init=3"))
    made.path.mkdir(parents=True)
    return made


def clock(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": step / 10,
        "adaptive_epoch": step / 5,
        "updates": step,
        "train_seconds": 1.5,
    }


def add_rows(directory: RunDirectory, step: int) -> None:
    """An evaluation's: two of metrics, one of lag profiles and of predictions."""
    columns = {"replicate": [0], "component": ["all"], "lag": [1], "phi": [0.5], "kept_of_mean": [0.5]}
    columns |= {"relative_bias": [0.5], "measured_bias": [0.5], "cosine": [np.nan]}
    directory.add_metrics(clock(step), [("K", 0, float(step)), ("lr", 0, 1.0)])
    directory.add_gradients({name: np.array(values) for name, values in columns.items()}, step, step / 10)
    columns = {"replicate": [0], "position": [11], "lag": [1], "phi": [0.5]}
    directory.add_positions({name: np.array(values) for name, values in columns.items()}, step, step / 10)
    columns = {"stream": [0], "position": [0], "quantity": ["symbol"], "target": [2], "predicted": [3]}
    directory.replace_predictions({name: np.array(values) for name, values in columns.items()}, step, step / 10)


def test_path_is_output_dir_name_and_id(directory: RunDirectory, tmp_path: Path) -> None:
    assert directory.path == tmp_path / "copy_fixed" / directory.experiment_id


def test_begin_stores_config_and_one_row_of_options(directory: RunDirectory) -> None:
    directory.begin(ORIGIN)
    (row,) = pq.read_table(directory.path / schema.OPTIONS).to_pylist()
    assert row["experiment_id"] == directory.experiment_id
    assert (row["init"], row["lr"], row["truncation"], row["truncation.K"]) == (3, 1.0, "fixed", 10)
    assert "seconds" not in row  # null
    stored = json.loads(pq.read_metadata(directory.path / schema.OPTIONS).metadata[schema.OPTIONS_JSON])
    assert stored == row
    assert {name: type(value) for name, value in stored.items()} == {name: type(v) for name, v in row.items()}
    assert "init: 3" in (directory.path / schema.CONFIG).read_text()


def test_metrics_have_the_schema_and_add_up(directory: RunDirectory) -> None:
    directory.add_metrics(clock(0), [("K", 0, 5.0)])
    directory.add_metrics(clock(10), [("K", 0, 6.0), ("K_0.9", 1, 7.0)])
    table = pq.read_table(directory.path / schema.METRICS)
    assert table.schema.equals(schema.METRICS_SCHEMA)
    assert table["value"].to_pylist() == [5.0, 6.0, 7.0]
    assert table["replicate"].to_pylist() == [0, 0, 1]
    assert set(table["experiment_id"].to_pylist()) == {directory.experiment_id}


def test_begin_says_running_and_clears_what_a_killed_process_left(directory: RunDirectory) -> None:
    directory.fail(ValueError("too large"))
    (directory.path / ".metrics.parquet.123.tmp").write_text("half")
    directory.begin(ORIGIN)
    assert (directory.status()["state"], directory.status()["error"]) == ("running", None)
    assert not list(directory.path.glob(".*.tmp"))
    assert not (directory.path / schema.TRACEBACK).exists()


def test_status_keeps_what_is_not_given_anew(directory: RunDirectory) -> None:
    directory.set_status(schema.RUNNING, epoch=1.0, K=3)
    directory.set_status(schema.RUNNING, epoch=2.0)
    status = directory.status()
    assert (status["state"], status["epoch"], status["K"]) == ("running", 2.0, 3)
    assert status["heartbeat"] > 0


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_broken_status_reads_as_none(directory: RunDirectory, text: str) -> None:
    (directory.path / schema.STATUS).write_text(text)
    assert read_status(directory.path) == {}


@pytest.mark.parametrize(
    ("state", "epoch", "seconds", "finished"),
    [
        ("finished", 2.0, 0.0, True),
        ("finished", 1.5, 0.0, False),
        ("running", 2.0, 0.0, False),
        ("finished", 1.5, 9.0, True),
    ],
)
def test_finished_means_the_budget_asked_for_now(
    settings: Any, state: str, epoch: float, seconds: float, finished: bool
) -> None:
    directory = RunDirectory(settings("epochs=2", "seconds=8"))
    directory.path.mkdir(parents=True)
    directory.set_status(state, epoch=epoch, train_seconds=seconds)
    assert directory.spent(directory.status()) is finished
    assert not directory.finished()  # it did not note what it left


def test_finished_means_that_what_others_read_is_as_it_was_left(directory: RunDirectory) -> None:
    """Also where a byte in the middle of a file has changed."""
    directory.begin(ORIGIN)
    add_rows(directory, 0)
    directory.finish(epoch=30.0, train_seconds=1.0)
    assert directory.finished()
    for name in (*tables.SCHEMAS, schema.OPTIONS, schema.CONFIG):
        path = directory.path / name
        content = path.read_bytes()
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
        assert not directory.finished()
        path.unlink()
        assert not directory.finished()
        path.write_bytes(content)
        assert directory.finished()


@pytest.mark.parametrize("broken", [None, "x", [], True])
def test_a_status_with_entries_of_another_type_stops_nothing(directory: RunDirectory, broken: object) -> None:
    entries = dict.fromkeys(("attempt", "epoch", "train_seconds", "best", "best_epoch", "K", "files"), broken)
    (directory.path / schema.STATUS).write_text(json.dumps({"state": "finished", **entries}))
    assert not directory.finished()
    directory.begin(ORIGIN)
    assert directory.status()["attempt"] == 1


def test_a_failure_leaves_traceback_and_reason(directory: RunDirectory) -> None:
    try:
        raise ValueError("too large")
    except ValueError as error:
        directory.fail(error)
    assert directory.status()["error"] == "ValueError: too large"
    assert 'raise ValueError("too large")' in (directory.path / schema.TRACEBACK).read_text()


def test_a_checkpoint_comes_back_with_the_rows_that_it_knew(directory: RunDirectory, settings: Any) -> None:
    """Even of the same step: an evaluation may be stored and the checkpoint after it lost."""
    assert directory.load_checkpoint(LOG) is None
    add_rows(directory, 0)
    add_rows(directory, 10)
    directory.save_checkpoint({"state": (torch.ones(2), None), "step": 3})
    add_rows(directory, 10)
    again = RunDirectory(settings("init=3"))
    found = again.load_checkpoint(LOG)
    assert found is not None
    assert found["step"] == 3
    assert torch.equal(found["state"][0], torch.ones(2))
    add_rows(again, 12)
    assert pq.read_table(again.path / schema.METRICS)["step"].to_pylist() == [0, 0, 10, 10, 12, 12]
    for name in (schema.GRADIENTS, schema.POSITIONS):
        assert pq.read_table(again.path / name)["step"].to_pylist() == [0, 10, 12]
    assert pq.read_table(again.path / schema.PREDICTIONS)["step"].to_pylist() == [12]


def test_a_task_without_predictions_has_no_file_of_them_and_finishes(directory: RunDirectory) -> None:
    """One that somebody puts there is not the run's."""
    directory.begin(ORIGIN)
    directory.add_metrics(clock(0), [("K", 0, 1.0)])
    directory.replace_predictions({}, 0, 0.0)
    assert not (directory.path / schema.PREDICTIONS).exists()
    directory.save_checkpoint({})
    directory.finish(epoch=30.0, train_seconds=1.0)
    assert directory.finished()
    (directory.path / schema.PREDICTIONS).write_bytes(b"another's")
    assert not directory.finished()
    directory.load_checkpoint(LOG)
    assert directory.finished()


def test_a_run_that_begins_again_keeps_its_progress_and_counts_its_attempts(
    directory: RunDirectory, settings: Any
) -> None:
    directory.begin(ORIGIN)
    directory.set_status(schema.RUNNING, epoch=1.5, best=1.25)
    again = RunDirectory(settings("init=3", "epochs=7", "seconds=5"))
    again.begin(ORIGIN)
    status = again.status()
    assert (status["attempt"], status["epoch"], status["best"], status["first_epoch"]) == (2, 1.5, 1.25, 1.5)
    assert (status["epochs"], status["seconds"], status["sweep"]) == (7.0, 5.0, "sweep")
    assert status["elapsed"] < 5


def test_a_killed_run_is_buried_with_its_reason_and_what_it_printed(directory: RunDirectory, settings: Any) -> None:
    directory.begin(ORIGIN)
    directory.set_status(schema.RUNNING, epoch=1.5)
    directory.set_status(schema.RUNNING, pid=1, elapsed=7.5)
    other = RunDirectory(settings("init=3"))
    other.bury("its process was killed", "line one\nline two")
    status = other.status()
    assert (status["state"], status["error"], status["epoch"]) == ("failed", "its process was killed", 1.5)
    assert (status["pid"], status["elapsed"]) == (1, 7.5)
    assert (other.path / schema.TRACEBACK).read_text().endswith("printed:\nline one\nline two\n")


def test_a_run_that_said_how_it_ended_or_is_held_again_is_not_buried(directory: RunDirectory, settings: Any) -> None:
    other = RunDirectory(settings("init=3"))
    directory.begin(ORIGIN)
    with directory.lock():
        other.bury("its process was killed", "")
    assert other.status()["state"] == "running"
    for state in (schema.FINISHED, schema.INTERRUPTED, schema.FAILED):
        directory.set_status(state, error="the reason")
        other.bury("its process was killed", "")
        assert (other.status()["state"], other.status()["error"]) == (state, "the reason")


def test_a_full_disk_ends_a_run_without_another_error(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started it tells; the log too is cut short without a word."""
    directory.begin(ORIGIN)

    def full(*_: object) -> None:
        raise StorageError(28, "No space left on device")

    with directory.logging() as log, monkeypatch.context() as patch:
        patch.setattr("atbptt.runs.directory.write_text", full)
        directory.fail(ValueError("too large"))
        stream = open("/dev/full", "w")  # noqa: SIM115  (the handler closes it)
        (handler,) = log.handlers
        assert isinstance(handler, logging.FileHandler)
        handler.setStream(stream)
        log.info("epoch 3")
    assert directory.status()["state"] == "running"


def _hold(path: str, locked: Any, done: Any) -> None:
    import fcntl

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        locked.set()
        done.wait(20)


def test_a_run_is_worked_on_by_one_process_and_freed_by_its_death(directory: RunDirectory) -> None:
    context = multiprocessing.get_context("spawn")
    locked, done = context.Event(), context.Event()
    owner = context.Process(target=_hold, args=(str(directory.path / schema.LOCK), locked, done))
    owner.start()
    assert locked.wait(20)
    with pytest.raises(BusyError, match="is being run by another process"), directory.lock():
        pass
    assert directory.busy()
    owner.kill()
    owner.join()
    assert not directory.busy()
    with directory.lock():
        assert json.dumps(directory.status()) == "{}"


def test_the_log_goes_to_the_runs_file_alone(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with directory.logging() as log:
        log.info("epoch %d", 3)
    assert (directory.path / schema.LOG).read_text().endswith("epoch 3\n")
    assert capsys.readouterr() == ("", "")
