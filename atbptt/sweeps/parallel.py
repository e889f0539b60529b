"""The launcher of this machine: joblib runs jobs side by side, each in a process of its own.

hydra-joblib-launcher itself has joblib's loky start a process for each worker, which imports torch once more and takes
its queue of jobs along when it is killed. Here joblib's workers are threads of the launching process that watch one run
each: none can be killed alone, or outlive it.
"""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_joblib_launcher import joblib_launcher
from joblib import Parallel, delayed
from omegaconf import DictConfig

from atbptt.runs import planned, schema
from atbptt.sweeps.process import Outcome, RunProcess
from atbptt.system import STORING, Signals, handled, listening
from atbptt.training import parallel_jobs

POLL_SECONDS = 0.5
GRACE_SECONDS = 120.0  # for runs to store a checkpoint and end
TRIES = 3  # to start a run whose process cannot be made, or that a left-over process of the same sweep still holds


class JoblibLauncher(joblib_launcher.JoblibLauncher):
    """Runs `n_jobs` jobs at once, each in a process of its own; -1 for as many as GPUs or cores allow.

    The plug-in's other options are about its worker processes, which are not used.
    """

    def __init__(self, n_jobs: int, **_: Any) -> None:
        super().__init__(n_jobs=n_jobs, backend="threading", batch_size=1)
        self.outcomes: dict[int, Outcome] = {}  # how each job ended, by its number
        self.say: Callable[[str], object] = print  # shows a line to the user
        self._sweep = Path()
        self._running: dict[int, RunProcess] = {}  # by number
        self._signals = Signals()
        self._deadline: float | None = None  # for the runs to end, after a signal
        self._lock = threading.Lock()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Find out where the plan is, and how many jobs run at once."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._sweep = Path(config.hydra.sweep.dir)
        if self.joblib["n_jobs"] == -1:
            device = config.device
            self.joblib["n_jobs"] = parallel_jobs(device.type, device.jobs_per_gpu, device.threads)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of the plan with these numbers.

        SIGUSR1 and SIGUSR2 have the runs store a checkpoint; other signals end them, and raise KeyboardInterrupt.
        """
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        with listening() as self._signals, handled(dict.fromkeys(STORING, self._store)):
            Parallel(**self.joblib)(delayed(self._run)(number) for number in numbers)
        if self._signals.ending:
            raise KeyboardInterrupt
        return []

    def _run(self, number: int) -> None:
        for _ in range(TRIES):
            if self._signals.ending:
                return
            try:
                process = self._running[number] = self._start(number)
            except OSError as error:
                self.outcomes[number] = Outcome(schema.FAILED, f"could not be started: {error}")
            else:
                self.outcomes[number] = self._watched(process)
                del self._running[number]
                if not process.superseded():
                    return
            time.sleep(POLL_SECONDS)

    def _start(self, number: int) -> RunProcess:
        found = planned(self._sweep, number)
        if found is None:
            raise FileNotFoundError("the sweep's plan cannot be read any more")
        return RunProcess(*found)

    def _watched(self, process: RunProcess) -> Outcome:
        """Wait for the end of a run; after a signal, see to it."""
        while (outcome := process.ended()) is None:
            if self._signals.ending:
                if self._signals.count > 1 or time.monotonic() > self._end_by():
                    process.kill("killed before it had stored a checkpoint")
                else:
                    process.send(signal.SIGTERM)  # again and again: a new process may not listen yet
            connection.wait(process.handles, timeout=POLL_SECONDS)
        return outcome

    def _end_by(self) -> float:
        with self._lock:
            if self._deadline is None:
                self._deadline = time.monotonic() + GRACE_SECONDS
                count = len(self._running)
                self.say(f"ending {count} runs, each with a checkpoint; a second signal kills them")
            return self._deadline

    def _store(self, _: int, __: FrameType | None) -> None:
        for process in [*self._running.values()]:
            process.send(signal.SIGUSR1)
