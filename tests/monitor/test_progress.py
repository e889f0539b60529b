from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from rich.console import Console

from atbptt.monitor.progress import Watch
from atbptt.runs import schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.status import RunStatus, read_run
from atbptt.runs.sweep import Job

HELD = ExitStack()
SWEEP = "2026-11-24_12-00-00_1"


@pytest.fixture
def jobs(settings: Any) -> Iterator[list[Job]]:
    made = [settings(f"init={i}") for i in range(3)]
    found = [Job(f"init={i}", [f"init={i}"], s, RunDirectory(s)) for i, s in enumerate(made)]
    for job in found:
        job.directory.make()
    yield found
    HELD.close()


def hold(job: Job) -> None:
    """A running run is one whose lock is held."""
    if not job.directory.busy():
        HELD.enter_context(job.directory.lock())


def beat(job: Job, state: str, epoch: float, best: float | None = None, **more: Any) -> None:
    if state == schema.RUNNING:
        hold(job)
    job.directory.set_status(
        state,
        epoch=epoch,
        train_seconds=0.0,
        K=7,
        monitor="valid_ppl",
        best=best,
        best_epoch=None if best is None else epoch,
        **{"sweep": SWEEP, **more},
    )


def now(job: Job) -> RunStatus:
    return current(read_run(job.directory.path), job, SWEEP)


def shown(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_headline_counts_states_and_names_the_best(jobs: list[Job]) -> None:
    beat(jobs[0], schema.RUNNING, 1.0, best=1.5)
    beat(jobs[1], schema.FINISHED, 2.0, best=1.25)
    statuses = [now(job) for job in jobs]
    assert shown(headline(jobs, statuses)).strip() == "1 running, 1 waiting, 1 finished | best valid_ppl 1.25: init=1"


def test_the_table_shows_running_runs_first_and_failures_as_such(jobs: list[Job]) -> None:
    beat(jobs[0], schema.FINISHED, 2.0, best=1.25)
    beat(jobs[1], schema.FAILED, 0.5, error="ValueError: too large")
    beat(jobs[2], schema.RUNNING, 1.0, best=1.5)
    lines = shown(running_table(jobs, [now(job) for job in jobs])).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["init=2", "init=1", "init=0"]
    assert "failed" in lines[2]
    assert "1.0 / 2" in lines[1]


def test_a_run_that_has_begun_and_not_been_evaluated_has_a_row(jobs: list[Job]) -> None:
    hold(jobs[0])
    jobs[0].directory.set_status(schema.RUNNING, sweep=SWEEP)
    statuses = [now(job) for job in jobs]
    assert "0.0 / 2" in shown(running_table(jobs, statuses))
    assert shown(headline(jobs, statuses)).strip() == "1 running, 2 waiting"


def test_a_long_sweep_stays_on_a_screen(jobs: list[Job]) -> None:
    beat(jobs[0], schema.RUNNING, 1.0, best=1.5)
    many = [jobs[0]] * (ROWS + 5)
    lines = shown(running_table(many, [now(job) for job in many])).splitlines()
    assert len(lines) == ROWS + 2
    assert lines[-1].startswith("... and 5 more")


def test_what_an_earlier_sweep_left_is_not_progress(jobs: list[Job], settings: Any) -> None:
    """But for what is finished, or runs in another process."""
    job = jobs[0]
    beat(job, schema.FAILED, 1.0, sweep="earlier", error="ValueError: no")
    assert now(job).state == "waiting"
    beat(job, schema.FAILED, 1.0, error="ValueError: no")
    assert now(job).state == "failed"
    beat(job, schema.RUNNING, 1.0, sweep="other")
    assert now(job).state == "running"
    beat(job, schema.FINISHED, 2.0, sweep="earlier")
    assert now(job).state == "finished"
    longer = Job("epochs=3", ["epochs=3"], settings("epochs=3"), job.directory)
    assert now(longer).state == "waiting"


def test_a_clock_that_jumps_changes_no_state(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    beat(jobs[0], schema.RUNNING, 1.0)
    for jump in (-86400.0, 86400.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: time.monotonic() + jump)
        beat(jobs[0], schema.RUNNING, 1.0)
        assert now(jobs[0]).state == "running"


def test_without_a_terminal_each_change_is_one_line(jobs: list[Job]) -> None:
    console = Console(file=io.StringIO(), width=60)
    with Watch(jobs, console, SWEEP):
        beat(jobs[0], schema.RUNNING, 0.5)
        time.sleep(1.2)
        beat(jobs[0], schema.FINISHED, 2.0, best=1.25)
        beat(jobs[1], schema.FAILED, 0.5, error="ValueError: no")
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "running      init=0  epoch 0.5 of 2, K 7",
        "finished     init=0  epoch 2 of 2, K 7, valid_ppl 1.25 at epoch 2",
        "failed       init=1  ValueError: no",
    ]


def test_without_a_terminal_a_line_from_time_to_time_says_how_far(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atbptt.monitor.progress.LINE_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=60)
    beat(jobs[0], schema.FINISHED, 2.0, best=1.25)
    watch = Watch(jobs, console, SWEEP)
    beat(jobs[1], schema.RUNNING, 0.5, best=1.5)
    hold(jobs[2])
    jobs[2].directory.set_status(schema.RUNNING, sweep=SWEEP)  # begun, but not evaluated yet
    watch._show()
    assert console.file.getvalue().splitlines()[-1] == (  # type: ignore[attr-defined]
        "2 running, 1 finished | best valid_ppl 1.25: init=0 | at epoch 0.5 of 2"
    )


def test_a_terminal_gets_a_table_that_ends_complete(jobs: list[Job]) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Watch(jobs, console, SWEEP):
        beat(jobs[0], schema.FINISHED, 2.0, best=1.25)
    assert "2.0 / 2" in console.file.getvalue()  # type: ignore[attr-defined]
