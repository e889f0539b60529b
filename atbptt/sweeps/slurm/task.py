"""What a job of Slurm does: one run, and what the job must do when Slurm ends it early."""

from __future__ import annotations

import copy
import signal
import sys
from types import FrameType

import submitit
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import TaskFunction
from omegaconf import DictConfig, open_dict
from submitit.slurm.slurm import SlurmJobEnvironment

from atbptt.sweeps import process
from atbptt.sweeps.slurm.queue import SlurmError, state_of

# A job that Slurm ends is killed when Slurm's own patience is over: this is only more than any cluster's.
END_SECONDS = 3600.0


class SlurmTask:
    """Runs one job of a sweep; submitit stores it, calls it in the job, and again each time the job starts anew.

    Before the time limit submitit gets a signal and calls `checkpoint`, then puts the job back into the queue. On
    SIGTERM the run stores a checkpoint and ends, and so does the job, by itself or to be started again by Slurm:
    whoever sent the signal (`scancel`, `scontrol requeue`, preemption) has told Slurm which.

    Where processes are tracked by cgroups only the job's first process gets these signals, not its run's: they are
    passed on.

    Arguments:
        task: what to do for a job, as Hydra's launchers call it.
        config: the composed config of the sweep.
        end_seconds: for a run to end once the job has been told that its time is over.
    """

    def __init__(self, task: TaskFunction, config: DictConfig, end_seconds: float) -> None:
        self.task = task
        self.config = config
        self.end_seconds = end_seconds

    def __call__(self, number: int) -> None:
        """Run the job with this number. Nothing is composed: the YAML files may have changed meanwhile."""
        setup_globals()
        config = copy.deepcopy(self.config)
        with open_dict(config.hydra.job):
            config.hydra.job.num = number
            config.hydra.job.id = submitit.JobEnvironment().job_id
        HydraConfig.instance().set_config(config)
        signal.signal(signal.SIGTERM, self._end)
        self.task(config)
        for late in (SlurmJobEnvironment._usr_sig(), signal.SIGTERM):  # would fail a job that is done
            signal.signal(late, signal.SIG_IGN)

    def checkpoint(self, number: int) -> submitit.helpers.DelayedSubmission:
        """Have the run store a checkpoint and end, before submitit requeues the job."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which the requeueing brings about
        process.end_children(self.end_seconds)
        return submitit.helpers.DelayedSubmission(self, number)

    def _end(self, _: int, __: FrameType | None) -> None:
        process.end_children(END_SECONDS)
        try:
            state = state_of(submitit.JobEnvironment().job_id)
        except SlurmError:
            state = ""
        if state in ("RUNNING", "SIGNALING"):
            # A preempted job with a time of grace: Slurm has not ended it yet, and would take it for failed if it
            # ended by itself. It asks for its place in the queue as it does before its time limit.
            signal.raise_signal(SlurmJobEnvironment._usr_sig())
        sys.exit(128 + signal.SIGTERM)
