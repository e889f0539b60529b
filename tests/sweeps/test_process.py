from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver
from unittest.mock import Mock

import pytest
import torch

from atbptt.config.settings import Settings
from atbptt.runs import schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.provenance import Origin
from atbptt.sweeps.process import Outcome, RunProcess, end_children, prepare
from atbptt.system.signals import ENDING, STORING

Make = Callable[..., Settings]
ORIGIN = Origin("sweep", {"repositories": []}, ["launch.py"])
LONG = "epochs=100000"
SECONDS = 60.0


@pytest.fixture
def start() -> Iterator[Callable[[Settings], RunProcess]]:
    """Starts runs, and leaves none."""
    started: list[RunProcess] = []

    def make(settings: Settings) -> RunProcess:
        started.append(RunProcess(settings, ORIGIN))
        return started[-1]

    yield make
    for process in started:
        process.kill("the test is over")


Start = Callable[[Settings], RunProcess]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def trains(process: RunProcess) -> bool:
    return (process.directory.path / schema.CHECKPOINT).exists()


def pid_of(process: RunProcess) -> int:
    return int(process.directory.status()["pid"])


def test_a_run_finishes_in_a_process_of_its_own(settings: Make, start: Start) -> None:
    prepare()
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    for number in (*ENDING, *STORING):
        os.kill(server, number)  # as schedulers and terminals signal all processes: the server lives on
    process = start(settings())
    assert process.wait() == Outcome("finished", "")
    assert forkserver._forkserver._forkserver_pid == server  # type: ignore[attr-defined]
    status = process.directory.status()
    assert status["pid"] != os.getpid()
    assert status["sweep"] == "sweep"
    assert process.directory.finished()
    assert (process.directory.path / schema.OUTPUT).read_text() == ""


@pytest.mark.parametrize(
    ("number", "kills", "reason"),
    [
        (signal.SIGKILL, 0, "its process was killed (SIGKILL); the system does that too when memory runs out"),
        (signal.SIGKILL, 10**9, "out of memory: the system killed its process (SIGKILL)"),
        (signal.SIGSEGV, 0, "its process crashed in native code (SIGSEGV)"),
    ],
)
def test_a_killed_or_crashed_process_is_marked_failed(
    settings: Make, start: Start, number: signal.Signals, kills: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(settings(LONG))
    until(lambda: trains(process))
    monkeypatch.setattr("atbptt.sweeps.process._out_of_memory_kills", lambda: kills)
    assert os.getpgid(pid_of(process)) == pid_of(process) != os.getpgid(0)  # Ctrl-C in a terminal is not for runs
    os.kill(pid_of(process), number)
    assert process.wait() == Outcome("failed", reason)
    assert process.directory.status()["error"] == reason
    trace = (process.directory.path / schema.TRACEBACK).read_text()
    assert ("Current thread" in trace and "in train" in trace) is (number == signal.SIGSEGV)
    assert not process.directory.busy()


def test_a_run_that_is_held_elsewhere_is_left_alone(settings: Make, start: Start) -> None:
    directory = RunDirectory(settings())
    with directory.lock():
        process = start(settings())
        assert process.wait().state == "busy"
        assert not process.superseded()
        directory.begin(ORIGIN)  # by an earlier process of the same sweep
        assert process.superseded()
    assert not (directory.path / schema.METRICS).exists()


def test_runs_are_ended_with_a_checkpoint_and_continue(settings: Make, start: Start) -> None:
    processes = [start(settings(LONG, f"init={i}")) for i in range(2)]
    until(lambda: all(map(trains, processes)))
    end_children(SECONDS)
    for process in processes:
        outcome = process.wait()
        assert outcome.state == "interrupted"
        assert outcome.reason.startswith("SIGTERM at epoch ")
        stored = torch.load(process.directory.path / schema.CHECKPOINT)
        at = (stored["epochs_done"] * 60 + stored["position"]) / 60
        assert process.directory.status()["epoch"] == at
    assert start(settings("epochs=1")).wait().state == "finished"


def test_runs_that_do_not_end_in_time_are_killed(settings: Make, start: Start) -> None:
    process = start(settings(LONG))
    until(lambda: trains(process))
    os.kill(pid_of(process), signal.SIGSTOP)
    end_children(0.2)
    assert process.wait() == Outcome("failed", "killed, since it had not stored a checkpoint within 0.2 s")


def test_the_death_of_the_server_ends_no_run_and_keeps_none_from_starting(settings: Make, start: Start) -> None:
    process = start(settings(LONG))
    until(lambda: trains(process))
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    connection.wait([process._process.sentinel], timeout=SECONDS)
    assert not process.ended()
    assert start(settings("init=1")).wait().state == "finished"
    process.send(signal.SIGTERM)
    assert process.wait().state == "interrupted"


def test_a_wait_that_is_interrupted_ends_the_run(settings: Make, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(settings(LONG))
    until(lambda: trains(process))
    with monkeypatch.context() as patch:
        patch.setattr(RunProcess, "ended", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            process.wait()
    assert process.wait().state == "interrupted"
