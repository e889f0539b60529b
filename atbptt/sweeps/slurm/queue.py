"""The states of jobs by Slurm's own commands: `squeue` needs no accounting, which many clusters lack."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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


class SlurmError(RuntimeError):
    """A command of Slurm failed; the message is Slurm's."""


@dataclass(frozen=True)
class QueuedJob:
    """A job as `squeue` lists it."""

    state: str  # PENDING, RUNNING, COMPLETED, ...
    reason: str = ""  # why it is pending

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
    for line in _slurm("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r").splitlines():
        number, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        if state:
            jobs[number] = QueuedJob(state, reason)
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
