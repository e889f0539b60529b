"""The launcher of this machine: jobs side by side, each in a process of its own."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from atbptt.runs import planned, schema
from atbptt.sweeps.process import Outcome, RunProcess
from atbptt.system import ENDING, STORING, available_cores, handled

POLL_SECONDS = 0.5
GRACE_SECONDS = 120.0  # for runs to store a checkpoint and end
TRIES = 3  # of a run that could not be started, or that an orphan of the same sweep still held


class LocalLauncher(Launcher):
    """Runs jobs side by side on this machine, each in a process of its own (see `atbptt.sweeps.process`).

    Arguments:
        n_jobs: as many at once; -1 for one a core.

    Attributes:
        outcomes: by the job's number, how it ended.
        say: shows a line to whoever launched.
        ending: whether it is having its runs end.
    """

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = available_cores() if n_jobs == -1 else n_jobs
        self.outcomes: dict[int, Outcome] = {}
        self.say: Callable[[str], object] = print
        self.ending = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing of Hydra's is needed: the plan has each job's config."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of the plan with these numbers.

        Raises:
            KeyboardInterrupt: a signal told this process to end; all runs have ended, with a checkpoint.
        """
        waiting = deque(range(initial_job_idx, initial_job_idx + len(job_overrides)))
        running: dict[int, RunProcess] = {}
        tries: Counter[int] = Counter()
        with _noting(running) as signals:
            while running or (waiting and not signals):
                while waiting and len(running) < self.n_jobs and not signals:
                    number = waiting.popleft()
                    tries[number] += 1
                    try:
                        running[number] = self._start(number)
                    except OSError as error:
                        self.outcomes[number] = Outcome(schema.FAILED, f"could not be started: {error}")
                        if tries[number] < TRIES:
                            waiting.append(number)
                        time.sleep(POLL_SECONDS)
                connection.wait([h for process in running.values() for h in process.handles], timeout=POLL_SECONDS)
                for number in [number for number, process in running.items() if process.ended()]:
                    process = running.pop(number)
                    assert process.outcome is not None
                    self.outcomes[number] = process.outcome
                    if tries[number] < TRIES and process.superseded():
                        waiting.append(number)
                if signals:
                    self._end(list(running.values()), signals)
        if signals:
            raise KeyboardInterrupt
        return []

    def _start(self, number: int) -> RunProcess:
        found = planned(number)
        if found is None:
            raise FileNotFoundError("the sweep's plan cannot be read any more")
        return RunProcess(*found)

    def _end(self, running: list[RunProcess], signals: list[float]) -> None:
        """Ask the runs to end, again at every call; kill them at a second signal, or after a while."""
        kill = len(signals) > 1 or time.monotonic() - signals[0] > GRACE_SECONDS
        if running and not self.ending:
            self.ending = True
            self.say(f"ending {len(running)} runs, each with a checkpoint; once more kills them")
        for process in running:
            if kill:
                process.kill("it was killed before it had stored a checkpoint, as it was asked to")
            else:
                process.end()
        time.sleep(POLL_SECONDS if running else 0)


@contextmanager
def _noting(running: Mapping[int, RunProcess]) -> Iterator[list[float]]:
    """Within, signals that end a session are noted, each with its time (s, monotonic), instead of raising errors.

    Signals that ask for a checkpoint are passed on to the runs.
    """
    came: list[float] = []

    def note(*_: object) -> None:
        came.append(time.monotonic())

    def pass_on(*_: object) -> None:
        for process in list(running.values()):
            process.store()

    with handled({**dict.fromkeys(ENDING, note), **dict.fromkeys(STORING, pass_on)}):
        yield came
