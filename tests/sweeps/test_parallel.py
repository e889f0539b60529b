from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from unittest.mock import Mock

import pytest
from omegaconf import OmegaConf

from atbptt.sweeps import parallel
from atbptt.sweeps.parallel import JoblibLauncher
from atbptt.sweeps.process import Outcome
from atbptt.system.signals import ENDING, STORING

FINISHED = Outcome("finished", "")


class FakeRun:
    """A run that ends at its second look, or if it is stubborn when it is killed."""

    def __init__(self, machine: Machine, number: int) -> None:
        self.machine, self.number = machine, number
        self.outcome: Outcome | None = None
        self.handles: list[int] = []
        self.looks = 0
        self.requests: list[signal.Signals] = []

    def ended(self) -> Outcome | None:
        self.looks += 1
        enough = sum(run.looks > 0 for run in self.machine.started) >= self.machine.enough
        if self.number == 0 and enough and self.machine.sent:
            self.machine.signalled = True
            signal.pthread_kill(threading.main_thread().ident, self.machine.sent.pop(0))
        expected = self.machine.sent or self.machine.signalled
        heeded = not expected or any(run.requests for run in self.machine.started)
        if self.looks >= 2 and enough and heeded and not self.machine.stubborn:
            self.outcome = self.outcome or self.machine.outcomes.get(self.number, FINISHED)
        return self.outcome

    def superseded(self) -> bool:
        self.machine.late[self.number] = self.machine.late.get(self.number, 0) - 1
        return self.machine.late[self.number] >= 0

    def send(self, number: signal.Signals) -> None:
        self.requests.append(number)
        if number == signal.SIGTERM:
            self.outcome = self.machine.when_ended

    def kill(self, reason: str) -> None:
        self.requests.append(signal.SIGKILL)
        self.outcome = Outcome("failed", reason)


class Machine:
    """Starts fake runs and notes them."""

    def __init__(self) -> None:
        self.started: list[FakeRun] = []
        self.most = 0
        self.enough = 0  # runs that start before one ends, or a signal is sent
        self.signalled = False
        self.outcomes: dict[int, Outcome] = {}
        self.refused: dict[int, int] = {}  # how often a number cannot be started
        self.late: dict[int, int] = {}  # how often another process still holds it
        self.sent: list[signal.Signals] = []  # a signal at each look at run 0
        self.stubborn = False
        self.when_ended: Outcome | None = None

    def start(self, number: int) -> FakeRun:
        if self.refused.get(number, 0):
            self.refused[number] -= 1
            raise ChildProcessError("no process")
        self.started.append(FakeRun(self, number))
        self.most = max(self.most, sum(run.outcome is None for run in self.started))
        return self.started[-1]

    @property
    def numbers(self) -> list[int]:
        return [run.number for run in self.started]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine()
    monkeypatch.setattr(JoblibLauncher, "_start", lambda _, number: made.start(number))
    monkeypatch.setattr(parallel, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(parallel, "parallel_jobs", lambda *_: 3)
    handlers = {number: signal.getsignal(number) for number in (*ENDING, *STORING)}
    yield made
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def launch(n_jobs: int, jobs: int, say: Callable[[str], object] = lambda _: None) -> JoblibLauncher:
    launcher = JoblibLauncher(n_jobs)
    device = {"type": "cpu", "jobs_per_gpu": 1, "threads": 1}
    launcher.setup(
        hydra_context=Mock(),
        task_function=Mock(),
        config=OmegaConf.create({"device": device, "hydra": {"sweep": {"dir": "."}}}),
    )
    launcher.say = say
    launcher.launch([[]] * jobs, 0)
    return launcher


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1])
def test_n_jobs_run_at_once_and_a_failure_is_not_retried(machine: Machine, n_jobs: int) -> None:
    failed = machine.outcomes[1] = Outcome("failed", "ValueError: no")
    machine.enough = 3 if n_jobs == -1 else n_jobs
    launcher = launch(n_jobs, 7)
    assert sorted(machine.numbers) == list(range(7))
    assert machine.most == machine.enough
    assert launcher.outcomes == {**dict.fromkeys(range(7), FINISHED), 1: failed}


@pytest.mark.parametrize(
    ("refusals", "outcome"), [(2, FINISHED), (3, Outcome("failed", "could not be started: no process"))]
)
def test_a_process_that_cannot_be_made_is_retried(machine: Machine, refusals: int, outcome: Outcome) -> None:
    machine.refused[0] = refusals
    assert launch(1, 2).outcomes == {0: outcome, 1: FINISHED}


@pytest.mark.parametrize(("late", "numbers"), [(1, [0, 0, 1]), (99, [*[0] * parallel.TRIES, 1])])
def test_a_run_that_a_left_over_process_held_is_retried(machine: Machine, late: int, numbers: list[int]) -> None:
    machine.late[0] = late
    launch(1, 2)
    assert machine.numbers == numbers


def test_a_signal_ends_the_runs_and_starts_no_other(machine: Machine) -> None:
    machine.when_ended = Outcome("interrupted", "SIGHUP")
    machine.sent = [signal.SIGHUP]
    machine.stubborn, machine.enough = True, 2
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        launch(2, 9, lines.append)
    assert sorted(machine.numbers) == [0, 1]  # two threads start them, in any order
    assert all(run.requests == [signal.SIGTERM] for run in machine.started)
    assert lines == ["ending 2 runs, each with a checkpoint; a second signal kills them"]


def test_a_request_for_checkpoints_is_passed_on_once(machine: Machine) -> None:
    machine.sent, machine.enough = [signal.SIGUSR2], 2
    assert launch(2, 3).outcomes == dict.fromkeys(range(3), FINISHED)
    assert [run.requests for run in machine.started] == [[signal.SIGUSR1], [signal.SIGUSR1], []]


@pytest.mark.parametrize(("signals", "grace"), [(2, 60.0), (1, 0.05)])
def test_a_run_that_does_not_end_is_killed(
    machine: Machine, signals: int, grace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "GRACE_SECONDS", grace)
    machine.stubborn = True
    machine.sent = [signal.SIGINT] * signals
    with pytest.raises(KeyboardInterrupt):
        launch(1, 1)
    assert machine.started[0].requests[0] == signal.SIGTERM
    assert machine.started[0].requests[-1] == signal.SIGKILL
