"""Sweeps on a real Slurm, and what befalls jobs there; `make test-slurm` starts one on this machine.

All train a user's own policy, beside a copy of launch.py, that makes them last. What becomes of them is compared with
the same sweep, undisturbed and on no cluster.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atbptt.runs import schema
from atbptt.sweeps.slurm.jobs import SlurmJob, read_jobs
from atbptt.sweeps.slurm.queue import QueuedJob, queued_jobs
from tests.helpers.comparing import differences
from tests.helpers.launched import Sweep

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]

EPOCHS, WINDOWS = 20, 6  # windows an epoch: 60 steps, K = 10
MIDDLE = 4.0  # epochs after which a run is in its middle
# Seconds before each window, and what befalls the run that has them.
TIMED_OUT, CANCELLED, KILLED, REQUEUED, PREEMPTED = 0.5, 0.1, 0.11, 0.12, 0.13
ALL = (TIMED_OUT, CANCELLED, KILLED, REQUEUED, PREEMPTED)
SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.timeout_min=1",  # Slurm's shortest
    "hydra.launcher.signal_delay_s=5",  # Slurm looks every 30 s: the signal comes 25 to 55 s after the start
    "hydra.launcher.mem_gb=1",
)

Make = Callable[..., "ClusterSweep"]


class ClusterSweep(Sweep):
    def jobs(self) -> dict[float, SlurmJob]:
        """The latest job of each run, by the run's pause."""
        found = {}
        for plan in sorted(self.output.glob(f".sweeps/*/{schema.PLAN}")):
            jobs = read_jobs(plan.parent)
            for run in json.loads(plan.read_text())["jobs"]:
                if run["experiment_id"] in jobs:
                    found[run["settings"]["truncation"]["pause"]] = jobs[run["experiment_id"]]
        return found

    def directory(self, pause: float) -> Path:
        for path in self.output.glob(f"copy_fixed/*/{schema.CONFIG}"):
            if f"pause: {pause}\n" in path.read_text():
                return path.parent
        raise FileNotFoundError(pause)

    def status(self, pause: float) -> dict[str, Any]:
        """What status.json says of a run, empty if there is none."""
        try:
            return dict(json.loads((self.directory(pause) / schema.STATUS).read_text()))
        except (OSError, ValueError):
            return {}

    def queued(self) -> dict[str, QueuedJob]:
        mine = {job.number for job in self.jobs().values()}
        return {number: job for number, job in queued_jobs().items() if number in mine and not job.final}

    def hurry(self) -> None:
        """Let requeued jobs start at once: Slurm holds them back for two minutes."""
        for number, job in self.queued().items():
            if job.state == "PENDING" and job.reason == "BeginTime":
                subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], check=False)

    def clear(self) -> None:
        super().clear()
        numbers = [job.number for job in self.jobs().values()]
        if numbers:
            subprocess.run(["scancel", "--quiet", *numbers], check=True)


@pytest.fixture(scope="module")
def mine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's copy of launch.py, with a policy beside it that only the YAML file names."""
    folder = tmp_path_factory.mktemp("mine")
    shutil.copy(root / "launch.py", folder)
    shutil.copytree(root / "conf", folder / "conf")
    shutil.copy(root / "tests" / "helpers" / "pausing.py", folder)
    policy = "name: pausing\n_target_: pausing.Pausing\nK: 10\npause: 0.0\n"
    (folder / "conf" / "truncation" / "pausing.yaml").write_text(policy)
    return folder


@pytest.fixture(scope="module")
def make(mine: Path, tiny: tuple[str, ...]) -> Iterator[Make]:
    """Make(folder, pauses, *options): a sweep whose processes and jobs are cleared away in the end."""
    made: list[ClusterSweep] = []

    def sweep(folder: Path, pauses: tuple[float, ...], *options: str, pausing: bool = True) -> ClusterSweep:
        swept = f"truncation.pause={','.join(map(str, pauses))}"
        budget = [f"epochs={EPOCHS}", "evaluate_every=5"]
        arguments = [*tiny, "truncation=pausing", *budget, swept, *options]
        made.append(ClusterSweep(folder, *arguments, environment={"PAUSING": "1"} if pausing else {}))
        made[-1].command[1] = str(mine / "launch.py")
        return made[-1]

    yield sweep
    for sweep_made in made:
        sweep_made.clear()


@pytest.fixture(scope="module")
def undisturbed(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of all runs, on this machine and without a pause."""
    sweep = make(tmp_path_factory.mktemp("undisturbed"), ALL, pausing=False)
    assert sweep.run() == 0, sweep.terminal
    return sweep.output


def job_process(job: SlurmJob) -> int:
    """The process that Slurm started for a job: submitit's, not srun's or the run's."""
    array, _, task = job.number.partition("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={array}".encode(), f"SLURM_ARRAY_TASK_ID={task}".encode(), b"SLURM_PROCID=0"}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            python = b"python" in command[0] and b"submitit.core._submit" in command
            if python and wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                return int(folder.name)
        except OSError:  # it has ended
            continue
    raise ProcessLookupError(job.number)


def test_a_job_of_its_own_with_nothing_of_the_environment(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    """One run is no array; and a site may keep the environment of who submits from jobs."""
    sweep = make(tmp_path, (CANCELLED,), *SLURM, pausing=False)
    sweep.environment["SBATCH_EXPORT"] = "NONE"
    assert sweep.run() == 0, sweep.terminal
    only = [f"copy_fixed/{sweep.directory(CANCELLED).name}"]
    assert list(differences(sweep.output, undisturbed, only)) == []
    assert "_" not in sweep.jobs()[CANCELLED].number
    assert sweep.jobs()[CANCELLED].state == "COMPLETED"


def test_whatever_befalls_a_job_the_same_command_finishes_it(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    sweep = make(tmp_path, ALL, *SLURM)
    disturb = {
        CANCELLED: lambda job: subprocess.run(["scancel", job.number], check=True),
        KILLED: lambda job: os.kill(job_process(job), signal.SIGKILL),
        REQUEUED: lambda job: subprocess.run(["scontrol", "requeue", job.number], check=True),
        # What Slurm does first to a preempted job that has a time of grace.
        PREEMPTED: lambda job: subprocess.run(["scancel", "--signal=TERM", job.number], check=True),
    }

    def disturbed() -> bool:
        for pause, status in [(pause, sweep.status(pause)) for pause in disturb]:
            if status.get("state") == schema.RUNNING and MIDDLE < (status.get("epoch") or 0) < EPOCHS - MIDDLE:
                disturb.pop(pause)(sweep.jobs()[pause])
        sweep.hurry()
        time.sleep(0.5)
        return sweep.ended() is not None

    sweep.launch()
    sweep.until(disturbed, "the command to end")
    assert disturb == {}
    assert sweep.ended() == 1, sweep.printed
    assert sweep.queued() == {}
    naming = [line for line in sweep.printed.splitlines() if str(tmp_path) in line or "(out/" in line]
    for pause in ALL:
        lines = [line for line in naming if f"truncation.pause={pause}:" in line]
        assert len(lines) == (pause in (CANCELLED, KILLED)), sweep.printed
    assert sweep.status(CANCELLED)["state"] == schema.INTERRUPTED
    assert sweep.jobs()[CANCELLED].state == "CANCELLED"
    assert sweep.jobs()[KILLED].state == "FAILED"
    for pause in (TIMED_OUT, REQUEUED, PREEMPTED):
        assert sweep.status(pause)["state"] == schema.FINISHED
        assert sweep.status(pause)["attempt"] > 1
        assert sweep.jobs()[pause].state == "COMPLETED"
    assert "SIGUSR2" in sweep.jobs()[TIMED_OUT].stderr.read_text()
    assert sweep.run() == 0, sweep.printed
    assert sweep.printed.count("skipped  ") == 3
    assert list(differences(sweep.output, undisturbed)) == []
    for pause in ALL:
        log = (sweep.directory(pause) / schema.LOG).read_text()
        assert "continues from its checkpoint" in log
        assert "begins anew" not in log
    assert not list(sweep.output.rglob(".*.tmp"))


def test_jobs_outlive_the_launching_process_are_found_again_and_end_with_ctrl_c(make: Make, tmp_path: Path) -> None:
    """Three runs where two have room, so that one waits."""
    pauses = (2.0, 2.1, 2.2)  # so long that none ends, and no time limit comes, before the second command finds them
    sweep = make(tmp_path, pauses, *SLURM, "hydra.launcher.array_parallelism=2", "hydra.launcher.timeout_min=5")
    process = sweep.launch()
    sweep.until(lambda: sum(sweep.status(pause).get("epoch", 0) > 0 for pause in pauses) == 2, "two runs")
    process.terminate()
    assert sweep.wait() == 0, sweep.printed
    assert "the jobs stay in Slurm's queue" in sweep.printed
    first = {pause: job.number for pause, job in sweep.jobs().items()}
    assert set(sweep.queued()) == set(first.values())
    process = sweep.launch()
    sweep.until(lambda: "in Slurm's queue already: 3 jobs" in sweep.printed, "the jobs to be found")
    assert "submitted" not in sweep.printed
    os.killpg(process.pid, signal.SIGINT)
    assert sweep.wait() == 130, sweep.printed
    assert "cancelling 3 jobs" in sweep.printed
    assert {pause: job.number for pause, job in sweep.jobs().items()} == first
    assert sweep.queued() == {}
    states = sorted(sweep.status(pause).get("state", "none") for pause in pauses)
    assert states == [schema.INTERRUPTED, schema.INTERRUPTED, "none"]
