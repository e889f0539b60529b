"""The launcher of `hydra/launcher=slurm`: submits a job for each run and waits until all are over.

The jobs are submitted by submitit, as by Hydra's own launcher for it, but waited for with `squeue`: submitit asks
`sacct`, and where a cluster has no accounting waits for ever for a job that was killed.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import submitit
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from submitit.core.utils import FailedSubmissionError, UncompletedJobError

from atbptt.runs import PLAN_VARIABLE, schema
from atbptt.sweeps.process import Outcome
from atbptt.sweeps.slurm.jobs import SlurmJob, read_plan, still_queued, write_jobs
from atbptt.sweeps.slurm.options import check_slurm, reached, refused
from atbptt.sweeps.slurm.queue import SlurmError, Waiting, cancel, complaint_of, largest_array, queued_jobs
from atbptt.sweeps.slurm.task import SlurmTask
from atbptt.system import LauncherSignals, LeftRunningError

POLL_SECONDS = 4.0  # between questions to Slurm ...
CANCEL_POLL_SECONDS = 1.5  # ... while a person waits for the answer
REQUEUE_SECONDS = 15.0  # between a run's end and the time limit, to put the job back into the queue
LISTED_JOBS = 5  # named in a message
COMPLETED = "COMPLETED"


class SlurmLauncher(submitit_launcher.SlurmLauncher):
    """Runs each job of a sweep as a job of Slurm. The options are submitit's, see conf/hydra/launcher/slurm.yaml.

    Attributes:
        outcomes: by the job's number, how it ended, where Slurm does not say completed.
        say: shows a line to whoever launched.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.outcomes: dict[int, Outcome] = {}
        self.say: Callable[[str], object] = print
        self._sweep = Path()
        self._jobs: dict[str, SlurmJob] = {}  # by experiment id
        self._foreign: set[str] = set()  # jobs that another process waits for
        self._signals = LauncherSignals(
            "the jobs stay in Slurm's queue; the same command waits for them again, scancel ends them"
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs of the plan with these numbers, and wait until they are over.

        A run whose job of an earlier sweep is still in the queue is not submitted again: that job is waited for.

        Raises:
            ConfigError: an option is wrong, or Slurm takes none of the jobs, or does not answer.
            KeyboardInterrupt: Ctrl-C; the jobs have been cancelled, each with a checkpoint.
            LeftRunningError: the session of this process ends; the jobs stay in the queue.
        """
        self._sweep = Path(os.environ[PLAN_VARIABLE]).parent
        plan = read_plan(self._sweep)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        runs = [plan["jobs"][plan["launched"][number]] for number in numbers]
        ids = {number: run["experiment_id"] for number, run in zip(numbers, runs, strict=True)}
        asked = {run["experiment_id"]: run for run in runs}
        check_slurm(self.params, max(run["settings"]["device"]["threads"] for run in runs))
        with reached():
            size = largest_array()
            self._jobs, self._foreign = still_queued(self._sweep, asked, queued_jobs())
        if self._jobs:
            self.say(f"in Slurm's queue already: {counted(job.number for job in self._jobs.values())}")
        with self._signals:
            try:
                self._submit(ids, size)
                self._wait()
            except KeyboardInterrupt:
                self._cancel()
                raise
        self._note_outcomes(ids)
        return []

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
            self._signals.obey()
            batch = left[first : first + size]
            try:
                # submitit prints what sbatch complains about, besides raising it
                with self._signals.kept_from_children(), contextlib.redirect_stderr(io.StringIO()):
                    submitted = executor.map_array(task, batch)
            except (UncompletedJobError, FailedSubmissionError, OSError) as error:
                complaint = complaint_of(str(error))
                if not self._jobs:
                    raise refused(complaint, self.params) from error
                for number in left[first:]:
                    self.outcomes[number] = Outcome(schema.FAILED, f"Slurm took no more jobs: {complaint}")
                self.say(f"Slurm takes no more jobs: {complaint}; {len(left) - first} runs are not submitted")
                break
            for number, job in zip(batch, submitted, strict=True):
                self._jobs[ids[number]] = SlurmJob(job.job_id, job.paths.stdout, job.paths.stderr)
            write_jobs(self._sweep, self._jobs)
            self.say(f"submitted to Slurm: {counted(job.job_id for job in submitted)}")

    def _executor(self) -> submitit.AutoExecutor:
        """submitit's, with the launcher's options and what a job needs of this process's environment."""
        paths = [sys.path[0], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        exported = {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(os.path.abspath(path) for path in paths if path)),
            PLAN_VARIABLE: os.environ[PLAN_VARIABLE],
            "SLURM_EXPORT_ENV": "ALL",  # to srun, also where SBATCH_EXPORT keeps this process's from the job
        }
        exports = [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
        executor = submitit.AutoExecutor(
            self.params["submitit_folder"],
            cluster="slurm",
            slurm_max_num_timeout=self.params["max_num_timeout"],
            slurm_python=f"{shlex.quote(sys.executable)} -P",  # no module of the present folder hides another, as here
        )
        options = {
            **self.params,
            "setup": [*exports, *(self.params["setup"] or ())],
            "additional_parameters": {"requeue": True, **self.params["additional_parameters"]},  # is allowed
        }
        del options["submitit_folder"], options["max_num_timeout"]
        shared = {field.name for field in fields(BaseQueueConf)}  # with submitit's other launchers
        executor.update_parameters(**{k if k in shared else f"slurm_{k}": value for k, value in options.items()})
        return executor

    def _wait(self) -> None:
        """Wait until Slurm says that all jobs are over."""
        waiting = Waiting(job.number for job in self._jobs.values())
        silent = False
        while waiting.left:
            self._signals.sleep(POLL_SECONDS)
            try:
                answer = queued_jobs()
            except SlurmError as error:  # that says nothing of the jobs: the controller may be restarted
                if not silent:
                    self.say(f"Slurm does not answer ({error}); waiting until it does")
                silent = True
                continue
            silent = False
            waiting.note(answer)
            for reason, jobs in waiting.stuck(answer).items():
                hint = f"scontrol show job {jobs[0]} says more, Ctrl-C cancels all"
                self.say(f"Slurm does not start {counted(jobs)} until something is changed ({reason}); {hint}")
        self._store_states(waiting)

    def _cancel(self) -> None:
        """Cancel the jobs and wait until they are over, but not at a second Ctrl-C."""
        waiting = Waiting({job.number for job in self._jobs.values()} - self._foreign)
        self._signals.forget()
        if waiting.left:
            self.say(f"cancelling {counted(waiting.left)}, each with a checkpoint; once more leaves without waiting")
        silent = False
        while waiting.left:
            try:
                cancel(waiting.left)  # each time: one that was just being requeued is pending again
                waiting.note(queued_jobs())
            except SlurmError as error:
                if not silent:
                    self.say(f"Slurm does not answer ({error}), jobs may be left in its queue; trying again")
                silent = True
            with contextlib.suppress(LeftRunningError):  # they are cancelled, not left
                self._signals.sleep(CANCEL_POLL_SECONDS if waiting.left else 0)
        self._store_states(waiting)

    def _store_states(self, waiting: Waiting) -> None:
        for experiment_id, job in self._jobs.items():
            self._jobs[experiment_id] = replace(job, state=waiting.ended.get(job.number))
        write_jobs(self._sweep, self._jobs)

    def _note_outcomes(self, ids: Mapping[int, str]) -> None:
        """Note what Slurm says of jobs that did not complete: their runs may not have had the time to say why."""
        for number, experiment_id in ids.items():
            job = self._jobs.get(experiment_id)
            if job is not None and job.state != COMPLETED:
                complaint = job.complaint()
                ends = f"; {job.stderr} ends: {complaint}" if complaint else f"; nothing in {job.stderr}"
                self.outcomes[number] = Outcome(schema.FAILED, f"Slurm's job {job.number} ended as {job.state}{ends}")


def counted(jobs: Iterable[str]) -> str:
    """How many jobs of Slurm, and the first of their ids: `7 jobs (12_0, 12_1, 12_2, 12_3, 12_4, ...)`."""
    numbers = sorted(jobs, key=lambda number: [int(part) for part in number.split("_")])
    named = ", ".join(numbers[:LISTED_JOBS]) + (", ..." if len(numbers) > LISTED_JOBS else "")
    return f"{len(numbers)} job{'s' if len(numbers) > 1 else ''} ({named})"
