import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from atbptt import training
from atbptt.config import Command, Settings
from atbptt.runs import Job, Origin, RunDirectory, schema
from atbptt.runs.status import STALE, WAITING, RunStatus
from atbptt.sweeps.command import PlainConsole, ended, main, preview, print_anew, report, store_notes
from atbptt.sweeps.planning import Plan
from atbptt.sweeps.process import Outcome
from atbptt.system.signals import ENDING, STORING
from tests.conftest import TINY, Hold


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts back what `main` changes of the process."""
    handlers = {number: signal.getsignal(number) for number in (*ENDING, *STORING)}
    shown = warnings.showwarning
    yield
    warnings.showwarning = shown
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("restored")
def test_a_users_class_that_ends_the_process_while_it_is_checked_is_reported(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an exit code of 0 with nothing done."""
    monkeypatch.setattr(training, "build", Mock(side_effect=SystemExit(0)), raising=False)
    assert main([*TINY, f"output_dir={tmp_path}"], root / "conf", lambda: None) == 1
    assert capsys.readouterr().err.startswith("error: SystemExit: 0 (")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(("end", "code"), [(SystemExit(3), 3), (SystemExit(), 0), (SystemExit("no"), 1), (None, 0)])
def test_hydras_exit_code_stands(
    root: Path, end: SystemExit | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.py", "--help", "preview=true"])
    assert main(sys.argv[1:], root / "conf", Mock(side_effect=end)) == code
    assert sys.argv == ["launch.py", "--help"]


def test_a_thread_of_a_users_class_does_not_keep_the_command_from_ending(root: Path) -> None:
    code = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    code += "from atbptt.sweeps.command import leave; print('done'); leave(3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=45)
    assert (done.returncode, done.stdout) == (3, "done\n")


SWEEP = "2026-01-01_00-00-00_7"


@pytest.mark.parametrize(
    ("state", "why", "outcome", "expected"),
    [
        (schema.FAILED, "ValueError: no", "by the launcher", "failed: ValueError: no"),
        (schema.INTERRUPTED, "SIGTERM at epoch 1", None, "interrupted: SIGTERM at epoch 1"),
        (STALE, "killed at epoch 1.5", None, "failed: killed at epoch 1.5"),
        (STALE, "killed at epoch 1.5", "StorageError: full", "failed: killed at epoch 1.5; StorageError: full"),
        (WAITING, None, "StorageError: full", "failed: StorageError: full"),
        (WAITING, None, None, "failed: never started"),
    ],
)
def test_why_a_run_is_not_finished(state: str, why: str | None, outcome: str | None, expected: str) -> None:
    known = Outcome(schema.FAILED, outcome) if outcome else None
    assert ": ".join(ended(RunStatus(Path(), state, "id", why, sweep=SWEEP), known, SWEEP)) == expected


@pytest.mark.parametrize("sweep", ["2025-12-31_00-00-00_7", None])
@pytest.mark.parametrize("state", [schema.INTERRUPTED, schema.FAILED, STALE])
def test_what_was_stored_before_is_not_the_reason(state: str, sweep: str | None) -> None:
    before = RunStatus(Path(), state, "id", "SIGTERM at epoch 1", sweep=sweep, heartbeat=5.0)
    assert ended(before, Outcome(schema.FAILED, "StorageError: no lock"), SWEEP) == (
        schema.FAILED,
        "StorageError: no lock",
    )
    assert ended(before, None, SWEEP, 6.0) == (schema.FAILED, "never started")
    if state != STALE:  # by a job in a cluster's queue, for which this sweep has waited
        assert ended(before, None, SWEEP, 4.0) == (state, "SIGTERM at epoch 1")


@pytest.fixture
def jobs(settings: Callable[..., Settings]) -> list[Job]:
    """Two runs that have finished in an earlier sweep, one that failed in it, and a new one."""
    made = [settings(f"init={i}", "tags=night") for i in range(4)]
    found = [Job(f"init={i}", [], each, RunDirectory(each)) for i, each in enumerate(made)]
    for job in found[:3]:
        end(job, "2026-01-01_1")
    found[2].directory.set_status(schema.FAILED, error="ValueError: old")
    return found


def end(job: Job, sweep: str, rerun: bool = False) -> None:
    job.directory.make()
    job.directory.begin(Origin(sweep, {"repositories": []}, rerun=rerun))
    job.directory.finish(epoch=2.0, train_seconds=1.0)


def rerun(jobs: list[Job], root: Path, anew: bool = True) -> Plan:
    return Plan(jobs, jobs, Command([], True, "config", root / "conf", None, False, anew), True)


def test_a_preview_of_a_rerun_says_what_begins_anew(
    jobs: list[Job], root: Path, hold: Hold, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs[1].directory.set_status(schema.RUNNING)
    hold(jobs[1].directory.path)
    preview(rerun(jobs, root), PlainConsole(width=200))
    *rows, counts = capsys.readouterr().out.splitlines()[1:]
    states = ["to be run anew", "running elsewhere", "to be run anew", "new"]
    assert [re.split(" {2,}", row)[1] for row in rows] == states
    assert counts.endswith("copy_fixed: 2 to be run anew; 1 running elsewhere; 1 new")
    print_anew(rerun(jobs, root), PlainConsole())
    folder = jobs[0].directory.path.parent
    assert capsys.readouterr().out == f"anew         2 of 4 runs; what is stored of them is kept in {folder}/.old/\n"


def test_a_run_that_has_not_begun_anew_is_not_reported_as_what_it_was(
    jobs: list[Job], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end(jobs[0], sweep := "2026-01-02_2", rerun=True)
    outcomes = {1: Outcome(schema.FAILED, "could not be started: no memory")}
    assert report(rerun(jobs, root), sweep, outcomes, 1.0, PlainConsole(), PlainConsole(stderr=True)) == 1
    out, err = capsys.readouterr()
    reasons = [line.partition(" (")[0] for line in err.splitlines()]
    assert reasons == [
        "failed       init=1: could not be started: no memory",
        "failed       init=2: never started",
        "failed       init=3: never started",
    ]
    assert out.splitlines()[-1] == "4 runs in 1 s: 1 finished, 3 failed"


def test_notes_are_stored_with_finished_runs_that_nobody_works_on(
    jobs: list[Job], root: Path, hold: Hold, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [replace(job, settings=job.settings.model_copy(update={"tags": ["day"]})) for job in jobs]
    for job in others:
        job.directory.settings = job.settings
    hold(others[1].directory.path)
    for anew in (True, False):  # a run that begins anew leaves the old notes with what is set aside
        assert "tags:\n- night\n" in (others[0].directory.path / schema.CONFIG).read_text()
        store_notes(rerun(others, root, anew), PlainConsole(), PlainConsole(stderr=True))
    out, err = capsys.readouterr()
    assert out == "noted        1 of 4 runs: new notes or tags\n"
    assert err.startswith("init=1: notes and tags are not stored: ")
    assert "tags:\n- day\n" in (others[0].directory.path / schema.CONFIG).read_text()


def test_ctrl_c_while_torch_is_imported_ends_it_at_once(root: Path, tmp_path: Path) -> None:
    """By the signal itself: a handler of Python's would wait for torch's native code."""
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, str(root / "launch.py"), f"output_dir={tmp_path}/out"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT
    assert not (tmp_path / "out").exists()
