import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from atbptt.runs import schema, status
from atbptt.runs.status import RunStatus, duration_text, read_run, result_text
from atbptt.system import locks
from tests.conftest import Hold

WriteStatus = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteStatus:
    """`write(state, beat, age, **fields)` -> the run's directory; heartbeat and file are so many seconds old."""
    directory = tmp_path / "0a1b2c3d4e5f"
    directory.mkdir()

    def make(state: object = schema.RUNNING, beat: float | None = 0.0, age: float = 0.0, **fields: Any) -> Path:
        now, path = time.time(), directory / schema.STATUS
        heartbeat = None if beat is None else now - beat
        path.write_text(json.dumps({"experiment_id": directory.name, "state": state, "heartbeat": heartbeat, **fields}))
        os.utime(path, (now - age, now - age))
        return directory

    return make


def test_a_run_without_a_status_waits_and_one_that_is_held_has_begun(tmp_path: Path, hold: Hold) -> None:
    assert read_run(tmp_path / "nowhere") == RunStatus(tmp_path / "nowhere", "waiting", "nowhere")
    assert read_run(tmp_path).state == "waiting"
    hold(tmp_path)
    assert read_run(tmp_path).state == "running"


def test_what_is_stored_is_read(write: WriteStatus, hold: Hold) -> None:
    stored = {
        "epoch": 2.5, "epochs": 30.0, "train_seconds": 12.5, "seconds": 60, "K": 7, "monitor": "valid_ppl",
        "best": 1.25, "best_epoch": 2.0, "host": "elsewhere", "pid": 12, "sweep": "2026-01-01_00-00-00_12",
        "attempt": 2, "started": 1000.0, "elapsed": 20.0, "first_epoch": 0.5, "waited": 0.5, "patience": 3.0,
    }  # fmt: skip
    directory = write(**stored)
    hold(directory)
    read = read_run(directory)
    assert (read.directory, read.state, read.experiment_id, read.why) == (directory, "running", directory.name, None)
    assert {name: getattr(read, name) for name in stored} == stored
    assert [type(value) for value in (read.K, read.pid, read.attempt)] == [int] * 3


@pytest.mark.parametrize(
    ("state", "error", "why"),
    [
        ("finished", None, None),
        ("failed", "ValueError: too\n  large", "ValueError: too large"),
        ("failed", None, "no reason stored"),
        ("interrupted", "SIGTERM at epoch 3", "SIGTERM at epoch 3"),
        ("interrupted", None, "interrupted at epoch 3.5"),
    ],
)
def test_how_a_run_ended_is_its_own_word(write: WriteStatus, state: str, error: str | None, why: str | None) -> None:
    read = read_run(write(state, epoch=3.5, error=error))
    assert (read.state, read.why) == (state, why)


@pytest.mark.parametrize(
    ("held", "fields", "why"),
    [
        (False, {}, "killed before its first step"),
        (False, {"epoch": 3.25}, "killed at epoch 3.25"),
        (True, {"age": 720, "beat": 720}, "no heartbeat for 12 min"),
        (True, {"age": 540, "beat": 540}, None),
        (True, {"beat": -18000}, None),  # the run's clock is ahead, or ours was put back
        (True, {"beat": -18000, "age": 18000}, None),
        (True, {"beat": 18000}, None),  # its clock is behind: the file system has seen it write now
        (True, {"age": 18000}, None),
        (True, {"beat": None}, None),
        (None, {}, None),  # a file system without locks leaves the heartbeat
        (None, {"age": 7200, "beat": 7200}, "no heartbeat for 2 h"),
    ],
)
def test_a_running_run_is_stale_if_nobody_holds_it_or_it_is_silent_by_all_clocks(
    write: WriteStatus, hold: Hold, held: bool | None, fields: Any, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(host="elsewhere", **fields)
    (directory / schema.LOCK).touch()  # a lock's file is no lock
    if held:
        hold(directory)
    elif held is None:
        monkeypatch.setattr(locks, "is_held", Mock(side_effect=OSError(95, "Operation not supported")))
    read = read_run(directory)
    assert (read.state, read.why) == ("stale" if why else "running", why)


def test_a_clock_that_jumps_makes_no_run_stale(write: WriteStatus, hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(age=7200, beat=7200, host=socket.gethostname(), pid=os.getpid(), elapsed=1000.0)
    hold(directory)
    ages = {os.getpid(): 1003.0}
    monkeypatch.setattr(status, "_process_age", ages.get)
    assert read_run(directory).state == "running"  # 3 seconds since the last heartbeat, whatever the clock says
    ages[os.getpid()] = 1000.0 + 3600.0
    assert read_run(directory).why == "no heartbeat for 1 h"
    ages.clear()
    assert read_run(directory).why == "no heartbeat for 2 h"


def test_the_age_of_a_process_is_read_from_the_system() -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    its, ours = (status._process_age(pid) for pid in (child.pid, os.getpid()))
    child.communicate()
    assert 0 <= its <= ours + 0.02  # it counts in hundredths
    assert status._process_age(child.pid) is None


def test_a_run_that_ends_while_read_was_not_killed(write: WriteStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(epoch=29.0)

    def end(_: Path) -> bool:
        write(schema.FINISHED, epoch=30.0)
        return False

    monkeypatch.setattr(locks, "is_held", end)
    assert read_run(directory).state == "finished"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "status.json: Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "status.json: state (=null) must be one of running, finished, failed, interrupted"),
        ('{"state": "done"}', "status.json: state (=done) must be one of running, finished, failed, interrupted"),
        ('{"state": ["failed"]}', "status.json: state (=['failed']) must be one of running, finished, failed, "),
    ],
)
def test_a_broken_status_is_reported(write: WriteStatus, content: str, why: str) -> None:
    directory = write()
    (directory / schema.STATUS).write_text(content)
    read = read_run(directory)
    assert (read.state, read.why[: len(why)]) == ("unknown", why)


def test_a_folder_in_the_place_of_the_status_is_reported_unless_the_run_is_held(write: WriteStatus, hold: Hold) -> None:
    path = write() / schema.STATUS
    path.unlink()
    path.mkdir()
    assert read_run(path.parent).why == "status.json: is a folder, not a file"
    hold(path.parent)
    assert read_run(path.parent).state == "running"


def test_values_of_the_wrong_kind_are_as_if_missing(write: WriteStatus) -> None:
    numbers = {"epoch": "3", "epochs": True, "K": None, "best": float("inf"), "best_epoch": float("nan"), "pid": []}
    numbers |= {"heartbeat": -2e11, "started": 253_402_300_799}  # the year 10000 in Tokyo
    directory = write("finished", experiment_id=4, monitor=3, **numbers)
    assert read_run(directory) == RunStatus(directory, "finished", directory.name)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_latest_time_can_be_shown_in_any_time_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert datetime.fromtimestamp(status.LATEST).astimezone().year == 9999
    finally:
        monkeypatch.undo()
        time.tzset()


def test_texts_are_cut_and_stand_in_one_line(write: WriteStatus) -> None:
    read = read_run(write("failed", beat=None, error="x" * 100_000, host="a\nb"))
    assert (read.why, read.host) == ("x" * 2000 + "... (100,000 characters)", "a\\nb")


def progress(**fields: Any) -> RunStatus:
    return RunStatus(Path("run"), "running", "run", **fields)


@pytest.mark.parametrize(
    ("fields", "speed", "left"),
    [
        ({}, 0.25, 40.0),
        ({"first_epoch": None}, 0.25, 40.0),
        ({"first_epoch": 3.0, "elapsed": 8.0}, 0.25, 40.0),
        ({"first_epoch": 5.0}, None, None),
        ({"elapsed": 0.0}, None, None),
        ({"epoch": None}, None, None),
        ({"epochs": None}, 0.25, None),
        # 10 s of training are 5 epochs and 20 s by the clock: the 6 s that are left of 16 are 3 epochs, 12 s.
        ({"train_seconds": 10.0, "seconds": 16.0}, 0.25, 12.0),
        ({"train_seconds": 10.0, "seconds": 40.0}, 0.25, 40.0),
        ({"train_seconds": 10.0, "seconds": 5.0}, 0.25, 0.0),
    ],
)
def test_speed_is_of_this_attempt_and_time_left_of_the_budget_that_ends_first(
    fields: dict[str, float], speed: float | None, left: float | None
) -> None:
    status = progress(**{"epoch": 5.0, "first_epoch": 0.0, "elapsed": 20.0, "epochs": 15.0, **fields})
    assert (status.speed, status.seconds_left) == (speed, pytest.approx(left))


def test_a_budget_is_reached_by_a_finished_run_that_came_so_far() -> None:
    finished = RunStatus(Path("run"), "finished", "run", epoch=3.0, train_seconds=10.0)
    assert finished.reached(3.0, None)
    assert not finished.reached(3.5, None)
    assert finished.reached(3.5, 10.0)
    assert not finished.reached(3.5, 11.0)
    assert not finished.reached(3.5, 11.0, 0.5)
    assert replace(finished, waited=0.5).reached(3.5, 11.0, 0.5)
    assert not replace(finished, waited=0.5).reached(3.5, 11.0, 0.6)
    assert not progress(epoch=3.0).reached(3.0, None)
    assert RunStatus(Path("run"), "finished", "run").reached(3.0, None)  # it does not say


def test_an_ended_run_is_read_again_if_changed(write: WriteStatus, hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write("finished", epoch=3.0)
    before = read_run(directory)
    with monkeypatch.context() as patch:
        patch.delattr(status, "read_json")
        assert read_run(directory, before) is before
    write("finished", age=1.0, epoch=4.0)
    assert read_run(directory, before).epoch == 4.0
    stale = read_run(write())
    hold(directory)
    assert read_run(directory, stale).state == "running"


def test_result_says_how_far_and_how_good() -> None:
    status = progress(epoch=1.5, epochs=2.0, K=7, monitor="valid_ppl")
    assert result_text(status) == "epoch 1.5 of 2, K 7"
    assert result_text(replace(status, best=1.25, best_epoch=1.0)) == "epoch 1.5 of 2, K 7, valid_ppl 1.25 at epoch 1"
    assert result_text(replace(status, why="ValueError: no")) == "ValueError: no"
    assert result_text(replace(status, epochs=None, K=None)) == "epoch 1.5"
    assert result_text(RunStatus(Path(), "waiting", "id")) == ""


def test_duration() -> None:
    seconds = (0.2, 59.4, 59.6, 3569.0, 3590.0, 11_100.0, 86_390.0, 86_700.0, 187_200.0)
    assert ", ".join(map(duration_text, seconds)) == "0 s, 59 s, 1 min, 59 min, 1 h, 3 h 5 min, 1 d, 1 d, 2 d 4 h"
