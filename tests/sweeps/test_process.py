import json
import os
import signal
import subprocess
import sys
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
from atbptt.sweeps.process import WANTED_VARIABLE, Outcome, RunProcess, _asking, end_children, prepare
from atbptt.system.signals import ENDING, STORING
from tests.conftest import ROOT
from tests.helpers.projects import Project
from tests.helpers.refusing import MODULES

Start = Callable[..., RunProcess]
ORIGIN = Origin("sweep", {"repositories": []}, ["launch.py"])
LONG = "epochs=100000"
SECONDS = 60.0


@pytest.fixture
def start(settings: Callable[..., Settings]) -> Iterator[Start]:
    """Starts runs, and leaves none; a long one has stored a checkpoint."""
    started: list[RunProcess] = []

    def make(*overrides: str) -> RunProcess:
        process = RunProcess(settings(*overrides), ORIGIN)
        started.append(process)
        deadline = time.monotonic() + SECONDS
        while LONG in overrides and not (process.directory.path / schema.CHECKPOINT).exists():
            assert time.monotonic() < deadline, "it does not train"
            time.sleep(0.02)
        return process

    yield make
    for process in started:
        process.kill("the test is over")


def pid_of(process: RunProcess) -> int:
    return int(process.directory.status()["pid"])


def test_a_run_finishes_in_a_process_of_its_own(start: Start) -> None:
    prepare()
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    for number in (*ENDING, *STORING):
        os.kill(server, number)  # as schedulers and terminals signal all processes: the server lives on
    process = start()
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
    start: Start, number: signal.Signals, kills: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(LONG)
    monkeypatch.setattr("atbptt.sweeps.process._out_of_memory_kills", lambda: kills)
    assert os.getpgid(pid_of(process)) == pid_of(process) != os.getpgid(0)  # Ctrl-C in a terminal is not for runs
    os.kill(pid_of(process), number)
    assert process.wait() == Outcome("failed", reason)
    assert process.directory.status()["error"] == reason
    trace = (process.directory.path / schema.TRACEBACK).read_text()
    assert ("Current thread" in trace and "in train" in trace) is (number == signal.SIGSEGV)
    assert not process.directory.busy()


def test_a_run_that_is_held_elsewhere_is_left_alone(settings: Callable[..., Settings], start: Start) -> None:
    directory = RunDirectory(settings())
    with directory.lock():
        process = start()
        assert process.wait().state == "busy"
        assert not process.superseded()
        directory.begin(ORIGIN)  # by an earlier process of the same sweep
        assert process.superseded()
    assert not (directory.path / schema.METRICS).exists()


def test_runs_are_ended_with_a_checkpoint_and_continue(start: Start) -> None:
    processes = [start(LONG, f"init={i}") for i in range(2)]
    with _asking:  # a signal may come while its thread asks a process for its exit code
        end_children(SECONDS)
    for process in processes:
        outcome = process.wait()
        assert outcome.state == "interrupted"
        assert outcome.reason.startswith("SIGTERM at epoch ")
        stored = torch.load(process.directory.path / schema.CHECKPOINT)
        at = (stored["epochs_done"] * 60 + stored["position"]) / 60
        assert process.directory.status()["epoch"] == at
    assert start("epochs=1").wait().state == "finished"


def test_runs_that_do_not_end_in_time_are_killed(start: Start) -> None:
    process = start(LONG)
    os.kill(pid_of(process), signal.SIGSTOP)
    end_children(0.2)
    connection.wait(process.handles, timeout=SECONDS)
    assert process.ended() == Outcome("failed", "killed, since it had not stored a checkpoint within 0.2 s")


@pytest.mark.parametrize("script", [False, True])
def test_the_server_outlives_a_module_that_raises_anything(project: Project, script: bool) -> None:
    """As one that no run executes, since only a function that is not called imports it."""
    project.write(stops=MODULES["stops"])
    stops = str(project.folder / "stops.py")
    wanted = {"path": [*sys.path], "modules": ["stops"], "script": stops if script else None}
    environment = os.environ | {WANTED_VARIABLE: json.dumps(wanted)}
    command = [sys.executable, "-c", "import atbptt.sweeps.preload"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_death_of_the_server_ends_no_run_and_keeps_none_from_starting(start: Start) -> None:
    process = start(LONG)
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    connection.wait([process._process.sentinel], timeout=SECONDS)
    assert not process.ended()
    assert start("init=1").wait().state == "finished"
    process.send(signal.SIGTERM)
    assert process.wait().state == "interrupted"


def test_a_wait_that_is_interrupted_ends_the_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(LONG)
    with monkeypatch.context() as patch:
        patch.setattr(RunProcess, "ended", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            process.wait()
    connection.wait(process.handles, timeout=SECONDS)
    assert (process.ended() or Outcome("running", "")).state == "interrupted"
