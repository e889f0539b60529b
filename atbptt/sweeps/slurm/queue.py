"""What Slurm says of jobs, by its own commands alone: `squeue` needs no accounting, which many clusters lack."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

COMMAND_SECONDS = 120.0  # for Slurm to answer; a busy controller takes long
# In two answers one after the other: a job that is requeued may for a moment look as if it were over.
CERTAIN_ANSWERS = 2
IDS_AT_ONCE = 500  # in a command line

FINAL = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
}  # fmt: skip
# Why a pending job will not start by itself, whatever else ends.
STUCK = {
    "BadConstraints",
    "DependencyNeverSatisfied",
    "InvalidAccount",
    "InvalidQOS",
    "JobHeldAdmin",
    "JobHeldUser",
    "JobHoldMaxRequeue",
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "ReservationDeleted",
}


class SlurmError(RuntimeError):
    """A command of Slurm failed; the text is Slurm's own."""


@dataclass(frozen=True)
class QueuedJob:
    """A job as Slurm lists it.

    Attributes:
        state: as `squeue` spells it (PENDING, RUNNING, COMPLETED, ...).
        reason: why it is pending, in Slurm's word.
    """

    state: str
    reason: str = ""

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.state in FINAL

    @property
    def stuck(self) -> bool:
        """Whether it is pending for a reason that does not go away by itself."""
        # A limit per job (QOSMaxWallDurationPerJobLimit, ...) is no matter of other jobs; a failed launch is held.
        never = self.reason in STUCK or "PerJob" in self.reason or self.reason.endswith("held")
        return self.state == "PENDING" and never


def queued_jobs() -> dict[str, QueuedJob]:
    """This user's jobs by id (`12`, or `12_3` of an array), those that ended some minutes ago included.

    Raises:
        SlurmError: Slurm does not answer, as while its controller is restarted.
    """
    return parsed(_slurm("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"))


def state_of(job: str) -> str:
    """The state of one job that is not over yet, by its id; empty if there is none.

    Raises:
        SlurmError: Slurm does not answer.
    """
    return _slurm("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip()


def parsed(text: str) -> dict[str, QueuedJob]:
    """The jobs of `squeue`'s lines `id|state|reason`."""
    jobs = {}
    for line in text.splitlines():
        number, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        if state:
            jobs[number] = QueuedJob(state, reason)
    return jobs


class Waiting:
    """Which of some jobs are over, from one answer of Slurm to the next.

    A job is over when Slurm lists it as ended or does not know it any more, twice in a row. A requeued job is pending
    again, and so is not.

    Arguments:
        jobs: their ids.
    """

    def __init__(self, jobs: Iterable[str]) -> None:
        self.left = set(jobs)
        self.ended: dict[str, str] = {}  # the state that each was last seen in
        self._seen: dict[str, str] = {}
        self._over: Counter[str] = Counter()  # answers in a row
        self._reported: set[str] = set()

    def note(self, answer: Mapping[str, QueuedJob]) -> None:
        """Take note of an answer."""
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
        """Jobs that cannot start, by Slurm's reason; each is reported once."""
        found: dict[str, list[str]] = {}
        for number in sorted(self.left - self._reported):
            job = answer.get(number)
            if job is not None and job.stuck:
                self._reported.add(number)
                found.setdefault(job.reason, []).append(number)
        return found


def cancel(jobs: Iterable[str]) -> None:
    """End jobs: the pending ones at once, the running ones with a signal to store a checkpoint.

    Raises:
        SlurmError: Slurm does not answer; jobs may be left.
    """
    numbers = sorted(jobs)
    for first in range(0, len(numbers), IDS_AT_ONCE):
        _slurm("scancel", "--quiet", *numbers[first : first + IDS_AT_ONCE])


def largest_array() -> int:
    """How many jobs Slurm takes as one array.

    Raises:
        SlurmError: Slurm does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"), re.MULTILINE)
    return max(int(found[1]), 1) if found else 1


def partitions() -> list[str]:
    """The names of the cluster's partitions; none where Slurm does not answer."""
    try:
        return sorted(set(_slurm("sinfo", "--noheader", "--format=%R").split()))
    except SlurmError:
        return []


def complaint_of(text: str) -> str:
    """The point of what a command of Slurm complained about, in a line."""
    lines = [line for line in text.splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"\w+: ", line)]  # not a hint at --help
    last = (own or lines or ["no reason given"])[-1]
    return re.sub(r"^\w+: ((error|fatal): )?(Batch job submission failed: )?", "", last.strip())


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
