import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from atbptt.config import Settings
from atbptt.monitor.progress import Watch
from atbptt.runs import schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.sweep import Job
from tests.conftest import Hold

SWEEP = "2026-11-24_12-00-00_1"


@pytest.fixture
def jobs(settings: Callable[..., Settings]) -> list[Job]:
    made = [settings(f"init={i}") for i in range(3)]
    found = [Job(f"init={i}", [f"init={i}"], each, RunDirectory(each)) for i, each in enumerate(made)]
    for job in found:
        job.directory.make()
    return found


def beat(job: Job, state: str, epoch: float | None, best: float | None = None, **more: Any) -> None:
    scores = {"monitor": "valid_ppl", "best": best, "best_epoch": None if best is None else epoch}
    job.directory.set_status(state, **{"epoch": epoch, "K": 7, "sweep": SWEEP, **scores, **more})


def lines(watch: Watch) -> list[str]:
    """What is printed next."""
    before = len(watch.console.file.getvalue())  # type: ignore[attr-defined]
    watch.show()
    return watch.console.file.getvalue()[before:].splitlines()  # type: ignore[attr-defined, no-any-return]


def test_without_a_terminal_each_change_is_one_line(jobs: list[Job], hold: Hold) -> None:
    with Watch(jobs, Console(file=io.StringIO(), width=60), SWEEP) as watch:
        hold(jobs[0].directory.path)
        beat(jobs[0], schema.RUNNING, 0.5)
        deadline = time.monotonic() + 60
        while not watch.console.file.getvalue() and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.05)
        beat(jobs[0], schema.FINISHED, 2.0, best=1.25)
        beat(jobs[1], schema.FAILED, 0.5, error="ValueError: no")
    assert watch.console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "running      init=0  epoch 0.5 of 2, K 7",
        "finished     init=0  epoch 2 of 2, K 7, valid_ppl 1.25 at epoch 2",
        "failed       init=1  ValueError: no",
    ]


def test_without_a_terminal_lines_show_progress(jobs: list[Job], hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbptt.monitor.progress.LINE_SECONDS", 0.0)
    watch = Watch(jobs, Console(file=io.StringIO(), width=60), SWEEP)
    assert lines(watch) == ["0 of 3 finished, 3 waiting"]
    beat(jobs[0], schema.FINISHED, 2.0, best=1.25)
    for job, epoch, best in ((jobs[1], 0.5, 1.5), (jobs[2], None, None)):  # the last is not evaluated yet
        hold(job.directory.path)
        beat(job, schema.RUNNING, epoch, best)
    assert lines(watch)[-1] == "1 of 3 finished, 2 running | best valid_ppl 1.25: init=0 | at epoch 0.5 of 2"
    beat(jobs[1], schema.RUNNING, 1.0, 0.5, monitor="valid_error")  # which does not compare with a perplexity
    assert lines(watch) == ["1 of 3 finished, 2 running | at epoch 1 of 2"]


def test_runs_left_by_an_earlier_sweep_wait_unless_they_are_finished_or_running(jobs: list[Job], hold: Hold) -> None:
    beat(jobs[0], schema.FINISHED, 2.0, sweep="earlier")
    beat(jobs[1], schema.FAILED, 1.0, sweep="earlier", error="ValueError: no")
    hold(jobs[2].directory.path)
    beat(jobs[2], schema.RUNNING, 1.0, sweep="other")
    longer = Job("epochs=3", ["epochs=3"], jobs[0].settings.model_copy(update={"epochs": 3.0}), jobs[0].directory)
    watch = Watch([*jobs, longer], Console(file=io.StringIO(), width=60), SWEEP)
    assert [line.split()[:2] for line in lines(watch)] == [["finished", "init=0"], ["running", "init=2"]]
    beat(jobs[0], schema.FINISHED, 2.0, sweep="earlier", waited=1.0)
    longer.settings.__dict__["patience"] = 1.0  # which has ended it
    assert [line.split()[:2] for line in lines(watch)] == [["finished", "epochs=3"]]
    beat(jobs[1], schema.FAILED, 1.0, error="ValueError: no")
    assert lines(watch) == ["failed       init=1  ValueError: no"]


def test_a_terminal_gets_tables_that_end_complete(jobs: list[Job], hold: Hold) -> None:
    with Watch(jobs, Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None), SWEEP) as watch:
        hold(jobs[1].directory.path)
        beat(jobs[1], schema.RUNNING, 1.0)
        watch.show()
        beat(jobs[0], schema.FINISHED, 2.0, best=1.25)
    shown = watch.console.file.getvalue()  # type: ignore[attr-defined]
    assert "1.0 / 2" in shown
    last = shown[shown.rindex("1 of 3 finished, 1 running, 1 waiting") :]
    assert "best valid_ppl 1.25: init=0" in last
    assert "epoch 2 of 2, K 7, valid_ppl 1.25 at epoch 2" in last
