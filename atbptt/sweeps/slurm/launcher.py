"""The launcher of `hydra/launcher=slurm`: submits a job for each run by submitit and waits until all are over.

It asks `squeue`: submitit asks `sacct`, and without accounting would wait forever for a job that was killed.
"""

import contextlib
import io
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import submitit
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from submitit.core.utils import FailedSubmissionError, JobPaths, UncompletedJobError

from atbptt.errors import ConfigError
from atbptt.runs import read_plan, schema
from atbptt.sweeps.process import Outcome
from atbptt.sweeps.slurm import queue
from atbptt.sweeps.slurm.jobs import SlurmJob, still_queued, write_jobs
from atbptt.sweeps.slurm.queue import QueuedJob, SlurmError, Waiting
from atbptt.sweeps.slurm.task import SlurmTask
from atbptt.system import LeftRunningError, Signals, listening

POLL_SECONDS = 4.0  # between questions to Slurm ...
CANCEL_POLL_SECONDS = 1.5  # ... while a person waits for the answer
TICK_SECONDS = 0.2  # between looks for a signal
REQUEUE_SECONDS = 15.0  # between a run's end and the time limit, to put the job back into the queue
LISTED_JOBS = 5  # in a message


class SlurmLauncher(submitit_launcher.SlurmLauncher):
    """Runs each job of a sweep as a job of Slurm; the options are those of conf/hydra/launcher/slurm.yaml."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.outcomes: dict[int, Outcome] = {}  # by number, as far as Slurm and its jobs tell
        self.say: Callable[[str], object] = print  # shows a line to the user
        self._sweep = Path()
        self._jobs: dict[str, SlurmJob] = {}  # by experiment id
        self._foreign: set[str] = set()  # jobs for which another process waits
        self._signals = Signals()
        self._silent = False  # whether Slurm did not answer the last time

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs of the plan with these numbers, unless an earlier sweep has, and wait until they are over.

        Raises:
            ConfigError: Slurm refuses all jobs or does not answer.
            KeyboardInterrupt: Ctrl-C; the jobs have been cancelled, each with a checkpoint.
            LeftRunningError: SIGTERM or SIGHUP; the jobs stay in the queue.
        """
        assert self.config is not None
        self._sweep = Path(self.config.hydra.sweep.dir)
        plan = read_plan(self._sweep)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        runs = {number: plan["jobs"][plan["launched"][number]] for number in numbers}
        ids = {number: run["experiment_id"] for number, run in runs.items()}
        settings = {run["experiment_id"]: run["settings"] for run in runs.values()}
        try:
            size = queue.largest_array()
            asked = {} if plan.get("rerun") else settings  # an earlier sweep's job would not begin the run anew
            self._jobs, self._foreign = still_queued(self._sweep, asked, queue.queued_jobs(), self._scripts())
        except SlurmError as error:
            raise ConfigError("hydra/launcher (=slurm)", f"cannot reach Slurm: {error}") from error
        if self._jobs:
            self.say(f"in Slurm's queue already: {counted(job.number for job in self._jobs.values())}")
        with listening() as self._signals:
            try:
                self._submit(ids, size)
                self._wait()
            except KeyboardInterrupt:
                self._cancel()
                raise
        for number, experiment_id in ids.items():
            ended = self._jobs.get(experiment_id)
            if ended is not None:  # its run may not have stored why it has not finished
                complaint = ended.complaint(self._sweep.parent, self._scripts())
                ends = f"{ended.stderr} ends: {complaint}" if complaint else f"nothing in {ended.stderr}"
                why = f"Slurm's job {ended.number} ended as {ended.state}; {ends}"
                self.outcomes[number] = Outcome(schema.FAILED, why)
        return []

    def _scripts(self) -> Path:
        """The folder with the scripts of the jobs, and what they print and complain about."""
        return JobPaths.get_first_id_independent_folder(self.params["submitit_folder"])

    def _obey_signals(self) -> None:
        if self._signals.ending == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signals.ending is not None:
            rule = "the jobs stay in Slurm's queue; the same command waits for them again, scancel ends them"
            raise LeftRunningError(f"ended by {self._signals.ending.name}: {rule}")

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._obey_signals()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))
            self._obey_signals()

    def _submit(self, ids: Mapping[int, str], size: int) -> None:
        """Submit the runs, by number, that have no job yet, in arrays of at most `size`."""
        left = [number for number, experiment_id in ids.items() if experiment_id not in self._jobs]
        if not left:
            return
        executor = self._executor()
        assert self.task_function is not None
        assert self.config is not None
        end_seconds = max(self.params["signal_delay_s"] - REQUEUE_SECONDS, 1.0)
        task = SlurmTask(self.task_function, self.config, end_seconds)
        for first in range(0, len(left), size):
            self._obey_signals()
            batch = left[first : first + size]
            # sbatch must not get a terminal's Ctrl-C, which would lose a job that is submitted.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
                    submitted = executor.map_array(task, batch)
            except (UncompletedJobError, FailedSubmissionError, OSError) as error:
                complaint = queue.complaint_of(str(error))
                if not self._jobs:
                    raise queue.refused(complaint, self.params) from error
                for number in left[first:]:
                    self.outcomes[number] = Outcome(schema.FAILED, f"Slurm took no more jobs: {complaint}")
                self.say(f"Slurm takes no more jobs: {complaint}; {len(left) - first} runs are not submitted")
                break
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for number, job in zip(batch, submitted, strict=True):
                self._jobs[ids[number]] = SlurmJob(job.job_id, job.paths.stdout, job.paths.stderr)
            write_jobs(self._sweep, self._jobs)
            self.say(f"submitted to Slurm: {counted(job.job_id for job in submitted)}")

    def _executor(self) -> submitit.AutoExecutor:
        """submitit's executor with the launcher's options, and the environment that a job needs."""
        paths = [sys.path[0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        exported = {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(os.path.abspath(path) for path in paths if path)),
            "SLURM_EXPORT_ENV": "ALL",  # for srun, also if SBATCH_EXPORT is NONE
        }
        exports = [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
        executor = submitit.AutoExecutor(
            self.params["submitit_folder"],
            cluster="slurm",
            slurm_max_num_timeout=self.params["max_num_timeout"],
            slurm_python=f"{shlex.quote(sys.executable)} -P",  # as here, modules of the present folder hide no others
        )
        options = {
            **self.params,
            "setup": [*exports, *(self.params["setup"] or ())],
            "additional_parameters": {"requeue": True, **self.params["additional_parameters"]},
        }
        del options["submitit_folder"], options["max_num_timeout"]
        shared = {field.name for field in fields(BaseQueueConf)}  # by all executors of submitit
        executor.update_parameters(**{k if k in shared else f"slurm_{k}": value for k, value in options.items()})
        return executor

    def _wait(self) -> None:
        waiting = Waiting(job.number for job in self._jobs.values())
        while waiting.left:
            self._sleep(POLL_SECONDS)
            for reason, jobs in waiting.stuck(self._ask(waiting)).items():
                hint = f"see scontrol show job {jobs[0]}; Ctrl-C cancels all"
                self.say(f"Slurm does not start {counted(jobs)} until something changes ({reason}): {hint}")
        self._store_states(waiting)

    def _cancel(self) -> None:
        """Cancel the jobs and wait until they are over, or until a second Ctrl-C."""
        waiting = Waiting({job.number for job in self._jobs.values()} - self._foreign)
        self._signals.ending = None
        if waiting.left:
            self.say(f"cancelling {counted(waiting.left)}, each with a checkpoint; a second Ctrl-C does not wait")
        while waiting.left:
            self._ask(waiting, cancelling=True)  # each time: a job that was being requeued is pending again
            try:
                self._sleep(CANCEL_POLL_SECONDS if waiting.left else 0)
            except LeftRunningError:  # the jobs are cancelled, not left
                self._signals.ending = None
        self._store_states(waiting)

    def _ask(self, waiting: Waiting, cancelling: bool = False) -> Mapping[str, QueuedJob]:
        """Note and return Slurm's answer; report once that it does not answer, as during a restart."""
        try:
            if cancelling:
                queue.cancel(waiting.left)
            answer = queue.queued_jobs()
        except SlurmError as error:
            if not self._silent:
                self.say(f"Slurm does not answer ({error}); waiting until it does")
            self._silent = True
            return {}
        self._silent = False
        waiting.note(answer)
        return answer

    def _store_states(self, waiting: Waiting) -> None:
        for experiment_id, job in self._jobs.items():
            self._jobs[experiment_id] = replace(job, state=waiting.ended.get(job.number))
        write_jobs(self._sweep, self._jobs)


def counted(jobs: Iterable[str]) -> str:
    """The number of jobs and the first of their ids: `7 jobs (12_0, 12_1, 12_2, 12_3, 12_4, ...)`."""
    numbers = sorted(jobs, key=lambda number: [int(part) for part in number.split("_")])
    named = ", ".join(numbers[:LISTED_JOBS]) + (", ..." if len(numbers) > LISTED_JOBS else "")
    return f"{len(numbers)} job{'s' if len(numbers) > 1 else ''} ({named})"
