"""The launcher against a made-up Slurm; test_cluster.py has it against a real one."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.types import HydraContext, RunMode
from hydra.utils import instantiate

from atbptt.config.composing import composer
from atbptt.errors import ConfigError
from atbptt.runs import schema
from atbptt.sweeps.launching import job
from atbptt.sweeps.slurm import launcher as module
from atbptt.sweeps.slurm.jobs import SlurmJob, read_jobs, write_jobs
from atbptt.sweeps.slurm.launcher import SlurmLauncher, counted
from atbptt.system import locks
from atbptt.system.signals import LeftRunningError
from tests.helpers.slurm import MadeUpSlurm

Make = Callable[..., SlurmLauncher]


@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[None]:
    """A launcher that waits for ever fails its test."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the launcher waits in vain"))
    signal.alarm(40)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def make(root: Path, tmp_path: Path, made_up: MadeUpSlurm, monkeypatch: pytest.MonkeyPatch) -> Make:  # noqa: ARG001
    """Make(runs, *options, name=...): the launcher of a sweep with so many runs, launched, in a folder of that name."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "CANCEL_POLL_SECONDS", 0.01)

    def launcher(runs: int, *options: str, name: str = "now", finished: int = 0) -> SlurmLauncher:
        sweep = tmp_path / "sweeps" / name
        sweep.mkdir(parents=True)
        entries = [{"experiment_id": f"run{i}", "settings": {"device": {"threads": 1}}} for i in range(finished + runs)]
        launched = list(range(finished, finished + runs))
        (sweep / schema.PLAN).write_text(json.dumps({"jobs": entries, "launched": launched}))
        overrides = ["hydra/launcher=slurm", f"hydra.sweep.dir={sweep}", *options]
        with composer(root / "conf") as hydra:
            config = hydra.compose_config("config", overrides, RunMode.MULTIRUN, with_log_configuration=False)
            made: SlurmLauncher = instantiate(config.hydra.launcher)
            context = HydraContext(config_loader=hydra.config_loader, callbacks=None)  # type: ignore[arg-type]
            made.setup(hydra_context=context, task_function=job, config=config)
        made.lines = []  # type: ignore[attr-defined]
        made.say = made.lines.append  # type: ignore[attr-defined]
        return made

    return launcher


def listing(state: str, *numbers: str, reason: str = "None", sweep: Path = Path("/")) -> str:
    return "".join(f"{number}|{state}|{reason}|{sweep}/.submitit/job.sh\n" for number in numbers)


def launch(made: SlurmLauncher, runs: int) -> list[str]:
    """What it says."""
    made.launch([[]] * runs, initial_job_idx=0)
    return made.lines  # type: ignore[attr-defined, no-any-return]


def test_runs_are_sent_in_arrays_that_slurm_takes(make: Make, made_up: MadeUpSlurm, tmp_path: Path) -> None:
    """Seven runs where an array has three; the last one is a job of its own."""
    numbers = [f"{array}_{task}" for array in (10, 11) for task in range(3)] + ["12"]
    over = listing("COMPLETED", *numbers)
    made_up.answers("", listing("RUNNING", *numbers), over, over)
    made = make(7, finished=2)
    assert launch(made, 7) == [
        "submitted to Slurm: 3 jobs (10_0, 10_1, 10_2)",
        "submitted to Slurm: 3 jobs (11_0, 11_1, 11_2)",
        "submitted to Slurm: 1 job (12)",
    ]
    assert ["#SBATCH --array=0-2%3" in script for script in made_up.scripts] == [True, True, False]
    sweep = tmp_path / "sweeps" / "now"
    found = read_jobs(sweep)
    assert [(name, job.number, job.state) for name, job in found.items()] == [
        (f"run{2 + i}", number, "COMPLETED") for i, number in enumerate(numbers)
    ]
    assert found["run3"].stderr == sweep / ".submitit" / "10_1_0_log.err"
    assert (sweep / ".submitit" / "12_submitted.pkl").exists()
    assert sum(call.startswith("squeue") for call in made_up.calls) == 4


def test_a_rerun_does_not_wait_for_an_earlier_sweeps_job(make: Make, made_up: MadeUpSlurm, tmp_path: Path) -> None:
    """That would find a finished run, and end."""
    before, now = make(1, name="before"), make(1)
    for name in ("before", "now"):
        path = tmp_path / "sweeps" / name / schema.PLAN
        path.write_text(json.dumps({**json.loads(path.read_text()), "rerun": True}))
    write_jobs(tmp_path / "sweeps" / "before", {"run0": SlurmJob("7", Path("out"), Path("err"))})
    made_up.answers(listing("PENDING", "7"), listing("COMPLETED", "10"), listing("COMPLETED", "10"))
    assert launch(now, 1) == ["submitted to Slurm: 1 job (10)"]
    assert before.outcomes == {}


def test_a_job_has_the_options_and_finds_a_users_modules(
    make: Make, made_up: MadeUpSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "beside it's"), *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"elsewhere{os.pathsep}{tmp_path}")
    options = [
        "partition=long",
        "account=us",
        "gpus_per_node=1",
        "mem_gb=8",
        "setup=[module load cuda]",
        "timeout_min=5",
    ]
    launch(make(1, *(f"hydra.launcher.{option}" for option in options), "device.threads=3"), 1)
    (script,) = made_up.scripts
    given = ["partition=long", "account=us", "gpus-per-node=1", "mem=8GB", "time=5", "cpus-per-task=3"]
    for line in (*given, "signal=USR2@120", "requeue", "job-name=atbptt", "open-mode=append"):
        assert f"#SBATCH --{line}\n" in script
    paths = os.pathsep.join([str(tmp_path / "beside it's"), os.path.abspath("elsewhere"), str(tmp_path)])
    assert f"export PYTHONPATH={shlex.quote(paths)}\n" in script
    assert script.index("export PYTHONPATH") < script.index("module load cuda") < script.index("srun")
    assert f"{shlex.quote(sys.executable)} -P -u -m submitit.core._submit" in script
    assert (made_up.folder / "spared").exists()  # sbatch does not get a terminal's Ctrl-C
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_refusals_and_silence_are_errors(make: Make, made_up: MadeUpSlurm, capfd: pytest.CaptureFixture[str]) -> None:
    refusal = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    (made_up.folder / "sbatch").write_text(f"#!/bin/sh\necho '{refusal}' >&2; exit 1\n")
    with pytest.raises(ConfigError, match=r"^hydra.launcher.partition \(=null\) is refused by Slurm: Invalid part"):
        launch(make(1), 1)
    assert capfd.readouterr() == ("", "")
    made_up.say("silent")
    with pytest.raises(ConfigError, match=r"^hydra/launcher \(=slurm\) cannot reach Slurm: scontrol: Unable to "):
        launch(make(1, name="silent"), 1)


def test_what_slurm_takes_no_more_is_reported_and_the_rest_is_waited_for(make: Make, made_up: MadeUpSlurm) -> None:
    made_up.say("full")
    made = make(5)
    assert launch(made, 5) == [
        "submitted to Slurm: 3 jobs (10_0, 10_1, 10_2)",
        "Slurm takes no more jobs: Job violates accounting/QOS policy; 2 runs are not submitted",
    ]
    reason = "Slurm took no more jobs: Job violates accounting/QOS policy"
    assert {number: made.outcomes[number].reason for number in (3, 4)} == {3: reason, 4: reason}


def test_a_killed_job_is_reported_with_slurms_words(make: Make, made_up: MadeUpSlurm, tmp_path: Path) -> None:
    errors = tmp_path / "sweeps" / "now" / ".submitit" / "10_1_0_log.err"
    made_up.answers("", "10_0|COMPLETED|None\n10_1|OUT_OF_MEMORY|OutOfMemory\n10_2|NODE_FAIL|None\n")
    made = make(3)
    errors.parent.mkdir()
    errors.write_text("slurmstepd: error: Detected 1 oom_kill event\nsrun: forcing job termination\n")
    launch(made, 3)
    ends = f"{errors} ends: slurmstepd: error: Detected 1 oom_kill event"
    nothing = errors.with_name("10_2_0_log.err")
    completed = errors.with_name("10_0_0_log.err")
    assert made.outcomes == {
        0: (schema.FAILED, f"Slurm's job 10_0 ended as COMPLETED; nothing in {completed}"),  # whose run may have failed
        1: (schema.FAILED, f"Slurm's job 10_1 ended as OUT_OF_MEMORY; {ends}"),
        2: (schema.FAILED, f"Slurm's job 10_2 ended as NODE_FAIL; nothing in {nothing}"),
    }


def test_a_silent_slurm_and_jobs_that_cannot_start_are_reported_once(make: Make, made_up: MadeUpSlurm) -> None:
    """The controller is restarted: the second and third question to squeue get no answer."""
    stuck = listing("PENDING", "10_0", "10_1", reason="PartitionTimeLimit")
    made_up.answers("", "none", "none", stuck, stuck, stuck, "")
    words = "squeue: slurm_load_jobs error: Unable to contact slurm controller"
    assert launch(make(2), 2)[1:] == [
        f"Slurm does not answer ({words}); waiting until it does",
        "Slurm does not start 2 jobs (10_0, 10_1) until something changes (PartitionTimeLimit): "
        "see scontrol show job 10_0; Ctrl-C cancels all",
    ]
    assert sum(call.startswith("squeue") for call in made_up.calls) == 8


def signal_while_it_waits(made: SlurmLauncher, number: signal.Signals) -> None:
    """Send this process a signal when the launcher first asks whether its jobs are over."""
    ask = made._ask

    def once(*arguments: Any, **options: Any) -> Any:
        made._ask = ask  # type: ignore[method-assign]
        signal.raise_signal(number)
        return ask(*arguments, **options)

    made._ask = once  # type: ignore[method-assign]


def test_the_same_command_finds_the_jobs_that_were_left(make: Make, made_up: MadeUpSlurm, tmp_path: Path) -> None:
    made_up.answers("", "10_0|RUNNING|None\n10_1|PENDING|Resources\n")
    made = make(2, name="first")
    signal_while_it_waits(made, signal.SIGTERM)
    with pytest.raises(LeftRunningError, match="ended by SIGTERM: the jobs stay in Slurm's queue"):
        launch(made, 2)
    assert not [call for call in made_up.calls if call.startswith("scancel")]
    running = "10_0|COMPLETED|None\n" + listing("RUNNING", "10_1", sweep=tmp_path / "sweeps" / "first")
    made_up.answers(running, running, "11|COMPLETED|None\n")
    assert launch(make(2, name="second"), 2) == [
        "in Slurm's queue already: 1 job (10_1)",
        "submitted to Slurm: 1 job (11)",
    ]
    jobs = read_jobs(tmp_path / "sweeps" / "second")
    assert {name: job.number for name, job in jobs.items()} == {"run0": "11", "run1": "10_1"}


def test_ctrl_c_cancels_jobs_that_no_other_launch_waits_for(make: Make, made_up: MadeUpSlurm, tmp_path: Path) -> None:
    made_up.answers("", "10_0|COMPLETED|None\n")
    launch(make(3, name="first"), 3)
    first = listing("RUNNING", "10_0", sweep=tmp_path / "sweeps" / "first")
    made_up.answers(f"{first}11_0|RUNNING|None\n11_1|PENDING|Resources\n")
    made = make(3, name="second")
    signal_while_it_waits(made, signal.SIGINT)
    with locks.hold(tmp_path / "sweeps" / "first" / schema.LOCK), pytest.raises(KeyboardInterrupt):
        launch(made, 3)
    assert made.lines[2:] == [  # type: ignore[attr-defined]
        "cancelling 2 jobs (11_0, 11_1), each with a checkpoint; a second Ctrl-C does not wait"
    ]
    assert "scancel --quiet 11_0 11_1" in made_up.calls
    jobs = read_jobs(tmp_path / "sweeps" / "second").values()
    assert {job.number: job.state for job in jobs} == {"10_0": None, "11_0": "CANCELLED", "11_1": "CANCELLED"}


def test_jobs_are_counted_and_named_in_their_order() -> None:
    assert counted(["7"]) == "1 job (7)"
    assert counted({f"12_{i}" for i in range(12)}) == "12 jobs (12_0, 12_1, 12_2, 12_3, 12_4, ...)"
