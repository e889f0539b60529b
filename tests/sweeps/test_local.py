from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from atbptt.sweeps import local
from atbptt.sweeps.local import LocalLauncher
from atbptt.sweeps.process import Outcome
from atbptt.system.signals import ENDING, STORING

FINISHED = Outcome("finished", "")


class FakeRun:
    """A run that ends at its second look, or when it is told to."""

    def __init__(self, number: int, outcome: Outcome, superseded: bool, stubborn: bool) -> None:
        self.number, self.result, self.stubborn = number, outcome, stubborn
        self.outcome: Outcome | None = None
        self.handles: list[int] = []
        self.looks = 0
        self.late = superseded
        self.requests: list[str] = []

    def ended(self) -> bool:
        self.looks += 1
        if self.looks >= 2 and not self.stubborn:
            self.outcome = self.outcome or self.result
        return self.outcome is not None

    def superseded(self) -> bool:
        return self.late

    def end(self) -> None:
        self.requests.append("end")

    def store(self) -> None:
        self.requests.append("store")

    def kill(self, reason: str) -> None:  # noqa: ARG002
        self.requests.append("kill")
        self.outcome = Outcome("failed", "killed")


class Machine:
    """Starts fake runs and notes them."""

    def __init__(self) -> None:
        self.started: list[FakeRun] = []
        self.most = 0
        self.outcomes: dict[int, Outcome] = {}
        self.refused: dict[int, int] = {}  # how often a number cannot be started
        self.late: dict[int, int] = {}  # how often it finds an orphan at work
        self.stubborn = False

    def start(self, number: int) -> FakeRun:
        if self.refused.get(number, 0):
            self.refused[number] -= 1
            raise ChildProcessError("no process")
        late = self.late.get(number, 0) > 0
        self.late[number] = self.late.get(number, 0) - 1
        self.started.append(FakeRun(number, self.outcomes.get(number, FINISHED), late, self.stubborn))
        self.most = max(self.most, sum(run.outcome is None for run in self.started))
        return self.started[-1]

    @property
    def numbers(self) -> list[int]:
        return [run.number for run in self.started]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine()
    monkeypatch.setattr(LocalLauncher, "_start", lambda _, number: made.start(number))
    monkeypatch.setattr(local, "POLL_SECONDS", 0.001)
    handlers = {number: signal.getsignal(number) for number in (*ENDING, *STORING)}
    yield made
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def launch(n_jobs: int, jobs: int) -> LocalLauncher:
    launcher = LocalLauncher(n_jobs)
    launcher.say = lambda _: None
    launcher.launch([[]] * jobs, 0)
    return launcher


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_so_many_run_at_once_and_all_in_their_order(machine: Machine, n_jobs: int) -> None:
    launcher = launch(n_jobs, 7)
    assert machine.numbers == list(range(7))
    assert machine.most == n_jobs
    assert launcher.outcomes == dict.fromkeys(range(7), FINISHED)


def test_minus_one_is_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "available_cores", lambda: 3)
    assert LocalLauncher(-1).n_jobs == 3


def test_a_run_that_fails_is_not_tried_again(machine: Machine) -> None:
    machine.outcomes[1] = Outcome("failed", "ValueError: no")
    launcher = launch(2, 3)
    assert machine.numbers == [0, 1, 2]
    assert launcher.outcomes[1] == machine.outcomes[1]


@pytest.mark.parametrize(
    ("refusals", "outcome"), [(2, FINISHED), (3, Outcome("failed", "could not be started: no process"))]
)
def test_a_process_that_cannot_be_made_is_tried_again_some_times(
    machine: Machine, refusals: int, outcome: Outcome
) -> None:
    machine.refused[0] = refusals
    launcher = launch(1, 2)
    assert launcher.outcomes == {0: outcome, 1: FINISHED}


def test_a_run_that_an_orphan_of_the_sweep_still_held_is_tried_again(machine: Machine) -> None:
    machine.late[0] = 1
    launch(1, 2)
    assert machine.numbers == [0, 1, 0]
    machine.late[0], machine.started = 99, []
    launch(1, 2)
    assert machine.numbers.count(0) == local.TRIES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_runs_and_starts_no_other(
    machine: Machine, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = FakeRun.end

    def obey(run: FakeRun) -> None:
        end(run)
        run.outcome = Outcome("interrupted", number.name)

    monkeypatch.setattr(FakeRun, "end", obey)
    machine.stubborn = True
    send_after(machine, lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt):
        launch(2, 9)
    assert machine.numbers == [0, 1]
    assert all(run.requests == ["end"] for run in machine.started)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_who_asks_for_checkpoints_is_passed_on_to_the_runs(machine: Machine, number: signal.Signals) -> None:
    send_after(machine, lambda: os.kill(os.getpid(), number))
    assert launch(2, 3).outcomes == dict.fromkeys(range(3), FINISHED)
    assert [run.requests for run in machine.started] == [["store"], ["store"], []]


def test_a_second_signal_kills_what_does_not_end(machine: Machine) -> None:
    machine.stubborn = True
    send_after(machine, lambda: os.kill(os.getpid(), signal.SIGINT), lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        launch(1, 1)
    assert machine.started[0].requests[0] == "end"
    assert machine.started[0].requests[-1] == "kill"


def test_what_does_not_end_in_a_while_is_killed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.stubborn = True
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.05)
    send_after(machine, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        launch(1, 1)
    assert machine.started[0].requests[-1] == "kill"


def test_an_ignored_signal_stays_ignored(machine: Machine) -> None:
    """As nohup wants it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        send_after(machine, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert launch(1, 2).outcomes == dict.fromkeys(range(2), FINISHED)
    finally:
        signal.signal(signal.SIGHUP, before)


def send_after(machine: Machine, *sends: Callable[[], None]) -> None:
    """Do one thing at each of the first run's looks."""
    left = list(sends)
    ended = FakeRun.ended

    def look(run: FakeRun) -> bool:
        if left and run.number == 0:
            left.pop(0)()
            time.sleep(0.001)
        return ended(run)

    start = machine.start

    def started(number: int) -> FakeRun:
        run = start(number)
        run.ended = lambda: look(run)  # type: ignore[method-assign]
        return run

    machine.start = started  # type: ignore[method-assign]
