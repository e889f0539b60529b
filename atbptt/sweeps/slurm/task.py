"""A job of Slurm: one run, and what happens when Slurm ends the job early."""

import copy
import signal
import sys
from pathlib import Path
from types import FrameType

import submitit
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import TaskFunction
from omegaconf import DictConfig, open_dict
from submitit.slurm.slurm import SlurmJobEnvironment

from atbptt.errors import complain
from atbptt.runs import planned, schema
from atbptt.sweeps import process
from atbptt.sweeps.slurm.queue import SlurmError, state_of

# Slurm kills a job that does not end in time; no cluster waits longer than this.
END_SECONDS = 3600.0


class SlurmTask:
    """Runs one job of a sweep. submitit stores it and calls it in the job, again whenever the job is requeued.

    Shortly before the time limit submitit gets a signal, calls `checkpoint` and requeues the job. On SIGTERM the run
    stores a checkpoint and ends, then the job; whether Slurm starts it again depends on who sent the signal (`scancel`,
    `scontrol requeue`, preemption). Only the job's first process may get these signals, so it ends the run's.
    """

    def __init__(self, task: TaskFunction, config: DictConfig, end_seconds: float) -> None:
        self.task = task  # Hydra's
        self.config = config  # of the sweep
        self.end_seconds = end_seconds  # for a run to end before the job is requeued

    def __call__(self, number: int) -> None:
        """Run a job without composing its config again: YAML files may have changed."""
        setup_globals()
        config = copy.deepcopy(self.config)
        with open_dict(config.hydra.job):
            config.hydra.job.num = number
            config.hydra.job.id = submitit.JobEnvironment().job_id
        HydraConfig.instance().set_config(config)
        signal.signal(signal.SIGTERM, self._end)
        if planned(sweep := Path(config.hydra.sweep.dir), number) is None:  # this config is the sweep's, not the job's
            raise FileNotFoundError(f"the plan in {sweep} cannot be read any more")
        outcome = self.task(config)
        if outcome.state == schema.FAILED:  # the launching process reads this if the run could not store it
            complain(f"error: {outcome.reason}")
        for late in (SlurmJobEnvironment._usr_sig(), signal.SIGTERM):  # would fail a job that has finished
            signal.signal(late, signal.SIG_IGN)

    def checkpoint(self, number: int) -> submitit.helpers.DelayedSubmission:
        """Have the run store a checkpoint and end; then submitit requeues the job."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # requeueing sends it
        process.end_children(self.end_seconds)
        return submitit.helpers.DelayedSubmission(self, number)

    def _end(self, _: int, __: FrameType | None) -> None:
        process.end_children(END_SECONDS)
        try:
            state = state_of(submitit.JobEnvironment().job_id)
        except SlurmError:
            state = ""
        if state in ("RUNNING", "SIGNALING"):
            # A preempted job in its grace time: if it ended by itself, Slurm would take it for failed. It is requeued
            # as before its time limit.
            signal.raise_signal(SlurmJobEnvironment._usr_sig())
        sys.exit(128 + signal.SIGTERM)
