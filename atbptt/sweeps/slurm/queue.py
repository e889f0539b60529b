"""Slurm's own commands, the options for them, and the states of jobs: `squeue` needs no accounting, unlike `sacct`."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atbptt.errors import ConfigError, listed, require, show

COMMAND_SECONDS = 120.0  # for Slurm to answer; a busy controller takes long
CERTAIN_ANSWERS = 2  # in a row: a job that is being requeued may for a moment look as if it were over

FINAL = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
}  # fmt: skip
# Reasons for which a pending job never starts by itself.
STUCK = {
    "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "JobHeldAdmin", "JobHeldUser",
    "JobHoldMaxRequeue", "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "ReservationDeleted",
}  # fmt: skip
COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "srun")
# The option that a refusal is about, by words in Slurm's message.
CAUSES = {
    "invalid account": "account",
    "invalid partition": "partition",
    "invalid qos": "qos",
    "requested time limit": "timeout_min",
    "generic resource": "gpus_per_node",
    "invalid feature": "constraint",
    "memory": "mem_gb",
    "invalid node name": "exclude",
    "cpu count": "cpus_per_task",
}


class SlurmError(RuntimeError):
    """A command of Slurm failed; the message is Slurm's."""


@dataclass(frozen=True)
class QueuedJob:
    """A job as `squeue` lists it."""

    state: str  # PENDING, RUNNING, COMPLETED, ...
    reason: str = ""  # why it is pending
    script: Path | None = None  # what it runs, if that has a path; of ours, in the folder that submitit writes to

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def stuck(self) -> bool:
        # A limit per job (QOSMaxWallDurationPerJobLimit) stays when other jobs end; a failed launch is held.
        never = self.reason in STUCK or "PerJob" in self.reason or self.reason.endswith("held")
        return self.state == "PENDING" and never


OVER = QueuedJob("COMPLETED")


def queued_jobs() -> dict[str, QueuedJob]:
    """This user's jobs by id (`12`, or `12_3` of an array), with those that ended some minutes ago (SlurmError)."""
    jobs = {}
    for line in _slurm("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%o").splitlines():
        number, _, rest = line.strip().partition("|")
        state, _, rest = rest.partition("|")
        reason, absolute, path = rest.partition("|/")  # a reason may have bars, too
        if state:
            jobs[number] = QueuedJob(state, reason, Path(f"/{path}") if absolute else None)
    return jobs


def state_of(job: str) -> str:
    """The state of the job with this id; empty if it is over (SlurmError)."""
    return _slurm("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip()


class Waiting:
    """Finds out which jobs are over: Slurm lists them as ended or does not know them, twice in a row."""

    def __init__(self, jobs: Iterable[str]) -> None:
        self.left = set(jobs)  # ids of those that are not over
        self.ended: dict[str, str] = {}  # the last known state of those that are
        self._seen: dict[str, str] = {}
        self._over: Counter[str] = Counter()  # answers in a row
        self._reported: set[str] = set()

    def note(self, answer: Mapping[str, QueuedJob]) -> None:
        for number in sorted(self.left):
            job = answer.get(number)
            if job is not None:
                self._seen[number] = job.state
            if job is not None and not job.final:
                del self._over[number]
                continue
            self._over[number] += 1
            if self._over[number] >= CERTAIN_ANSWERS:
                self.left.remove(number)
                self.ended[number] = self._seen.get(number, "unknown")

    def stuck(self, answer: Mapping[str, QueuedJob]) -> dict[str, list[str]]:
        """The ids of jobs that cannot start, by Slurm's reason, each once."""
        found: dict[str, list[str]] = {}
        for number in sorted(self.left - self._reported):
            job = answer.get(number)
            if job is not None and job.stuck:
                self._reported.add(number)
                found.setdefault(job.reason, []).append(number)
        return found


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs: pending ones end at once, running ones get a signal to store a checkpoint (SlurmError)."""
    _slurm("scancel", "--quiet", *sorted(jobs))


def largest_array() -> int:
    """How many jobs Slurm takes as one array (SlurmError)."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"), re.MULTILINE)
    return max(int(found[1]), 1) if found else 1


def partitions() -> list[str]:
    """The names of the cluster's partitions; none if Slurm does not answer."""
    try:
        return sorted(set(_slurm("sinfo", "--noheader", "--format=%R").split()))
    except SlurmError:
        return []


def complaint_of(text: str) -> str:
    """The reason that a failed command of Slurm gives, in one line."""
    lines = [line for line in text.splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"\w+: ", line)]  # not a hint at --help
    last = (own or lines or ["no reason given"])[-1]
    return re.sub(r"^\w+: ((error|fatal): )?(Batch job submission failed: )?", "", last.strip())


def check_slurm(options: Mapping[str, Any], threads: int) -> None:
    """Check that Slurm is here, and the options, also for the largest `device.threads` of the runs (ConfigError)."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        rule = f"needs Slurm's {listed(missing)}, not on this machine's PATH; choose hydra/launcher=joblib"
        raise ConfigError("hydra/launcher (=slurm)", rule)
    limit_s = 60 * options["timeout_min"]
    delay_s, cpus = options["signal_delay_s"], options["cpus_per_task"]
    for name, fits, rule in (
        ("nodes", options["nodes"] == 1, "must be 1: a run is one process"),
        ("tasks_per_node", options["tasks_per_node"] == 1, "must be 1: a run is one process"),
        ("timeout_min", limit_s > 0, "must be at least 1 minute"),
        ("signal_delay_s", 0 < delay_s < limit_s, f"must be between 1 and timeout_min (={limit_s} s)"),
        ("max_num_timeout", options["max_num_timeout"] >= 0, "must not be negative"),
        ("array_parallelism", options["array_parallelism"] >= 1, "must be at least 1 job at once"),
        ("cpus_per_task", cpus is None or cpus >= threads, f"must be at least device.threads (={threads})"),
    ):
        require(fits, f"hydra.launcher.{name}", options[name], rule)


def refused(text: str, options: Mapping[str, Any]) -> ConfigError:
    """Slurm's refusal of a job as an error about the option that caused it."""
    cause = next((name for words, name in CAUSES.items() if words in text.lower()), None)
    if cause is None:
        return ConfigError("hydra.launcher", f"is refused by Slurm: {text}")
    choices = partitions() if cause == "partition" else []
    hint = f"; the partitions are {listed(choices)}" if choices else ""
    return ConfigError(f"hydra.launcher.{cause}", f"(={show(options[cause])}) is refused by Slurm: {text}{hint}")


def _slurm(*command: str) -> str:
    # A user's SQUEUE_PARTITION and the like would hide jobs.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SQUEUE_", "SCANCEL_"))}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SlurmError(f"{command[0]}: {complaint_of(done.stderr)}")
    return done.stdout
