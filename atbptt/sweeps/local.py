"""The launcher of this machine: jobs side by side, each in a process of its own."""

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from multiprocessing import connection

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from atbptt.runs import planned, schema
from atbptt.sweeps.process import Outcome, RunProcess
from atbptt.system import available_cores, listening

POLL_SECONDS = 0.5
GRACE_SECONDS = 120.0  # for runs to store a checkpoint and end
TRIES = 3  # to start a run whose process cannot be made, or that a left-over process of the same sweep still holds


class LocalLauncher(Launcher):
    """Runs `n_jobs` jobs at once, each in a process of its own; -1 for one per core."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = available_cores() if n_jobs == -1 else n_jobs
        self.outcomes: dict[int, Outcome] = {}  # how each job ended, by its number
        self.say: Callable[[str], object] = print  # shows a line to the user

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Does nothing: the plan has each job's config."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of the plan with these numbers.

        SIGUSR1 and SIGUSR2 have the runs store a checkpoint; other signals end them, and raise KeyboardInterrupt.
        """
        waiting = deque(range(initial_job_idx, initial_job_idx + len(job_overrides)))
        running: dict[int, RunProcess] = {}
        tries: Counter[int] = Counter()
        deadline = None
        with listening() as signals:
            while running or (waiting and not signals.ending):
                while waiting and len(running) < self.n_jobs and not signals.ending:
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
                if signals.storing:
                    signals.storing = False
                    for process in running.values():
                        process.send(signal.SIGUSR1)
                for number, process in [*running.items()]:
                    outcome = process.ended()
                    if outcome is None:
                        continue
                    del running[number]
                    self.outcomes[number] = outcome
                    if tries[number] < TRIES and process.superseded():
                        waiting.append(number)
                if signals.ending and running:
                    if deadline is None:
                        deadline = time.monotonic() + GRACE_SECONDS
                        self.say(f"ending {len(running)} runs, each with a checkpoint; a second signal kills them")
                    for process in running.values():
                        if signals.count > 1 or time.monotonic() > deadline:
                            process.kill("killed before it had stored a checkpoint")
                        else:
                            process.send(signal.SIGTERM)
                    time.sleep(POLL_SECONDS)
        if signals.ending:
            raise KeyboardInterrupt
        return []

    def _start(self, number: int) -> RunProcess:
        found = planned(number)
        if found is None:
            raise FileNotFoundError("the sweep's plan cannot be read any more")
        return RunProcess(*found)
