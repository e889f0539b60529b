import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from atbptt.monitor import display
from atbptt.monitor.display import blocks, print_status, seconds_left, watch_status
from atbptt.monitor.reading import Report, Run, Sweep
from atbptt.runs import schema
from atbptt.runs.status import RunStatus
from tests.conftest import Hold
from tests.helpers.made import COMMAND, write_plan, write_status

LONG = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def run(label: str, state: str, **fields: Any) -> Run:
    """Half of 4 epochs in 10 s; a finished one all of them in 20 s."""
    ended = state == "finished"
    known = {"epoch": 4.0 if ended else 2.0, "elapsed": 20.0 if ended else 10.0, "epochs": 4.0, "sweep": "first"}
    more = {"K": 7, "monitor": "valid_ppl", "best": 1.25, "best_epoch": 1.5, "host": "node1.cluster", "pid": 4711}
    read = RunStatus(Path("outputs") / label, state, label, **{**known, **more, **fields})
    return Run(label, read, read)


def waiting(label: str) -> Run:
    return Run(label, *[RunStatus(Path("outputs") / label, "waiting", label)] * 2)


def sweep(*runs: Run, launching: bool | None = True) -> Sweep:
    return Sweep("first", COMMAND, "node0", 99, 1_000_000_000.0, launching, runs)


def shown(
    *sweeps: Sweep, unplanned: tuple[Run, ...] = (), width: int = 100, terminal: bool = False, **options: bool
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    console.print(blocks(Report(sweeps, unplanned, ()), console, **options))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


EVERYTHING = sweep(
    run("lr=1", "finished"),
    run("lr=2", "running"),
    run("lr=3", "failed", why=LONG),
    run("lr=4", "stale", why="killed at epoch 2"),
    run("lr=5", "interrupted", why="SIGTERM at epoch 2"),
    run("lr=6", "unknown", why="status.json: no"),
    waiting("lr=7"),
)


def test_a_sweep_is_a_headline_and_what_runs_and_what_went_wrong() -> None:
    lines = shown(EVERYTHING, width=140)
    assert lines[0] == "python launch.py -m lr=1,10"
    assert lines[1].startswith("begun 2001-09-0")
    assert lines[1].endswith(" on node0, process 99 still runs; about 30 s left")
    assert lines[2] == "1 of 7 finished, 1 running, 1 waiting, 1 interrupted, 1 stale, 1 failed, 1 unknown"
    assert lines[3].split() == ["running", "epoch", "s/epoch", "left", "K", "valid_ppl", "host,", "pid"]
    assert lines[4].split() == ["lr=2", "2.0", "/", "4", "5", "10", "s", "7", "1.25", "node1,", "4711"]
    assert [line.split(maxsplit=2) for line in lines[5:]] == [
        ["failed", "lr=3", LONG],
        ["stale", "lr=4", "killed at epoch 2"],
        ["unknown", "lr=6", "status.json: no"],
        ["interrupted", "lr=5", "SIGTERM at epoch 2"],
    ]
    lines = shown(EVERYTHING, show_all=True)
    assert [line.split(maxsplit=2) for line in lines[9:]] == [
        ["finished", "lr=1", "epoch 4 of 4, K 7, valid_ppl 1.25 at epoch 1.5"],
        ["waiting", "lr=7"],
    ]


def test_a_long_reason_is_cut_and_a_long_label_is_wrapped() -> None:
    lines = shown(sweep(run("truncation.K=2 lr=1", "failed", why=LONG)), width=60)
    assert lines[3].startswith(" failed truncation.K=2 lr=1 RuntimeError: CUDA")
    assert lines[3].endswith("…")
    assert (len(lines), len(lines[3])) == (4, 60)
    label = "experiment=wikitext2 truncation=adaptive truncation.estimator=[bold] init=3"  # which is no markup
    for state in ("running", "failed"):
        lines = shown(sweep(run(label, state, why="killed [/x]")), width=80)
        assert max(map(len, lines)) <= 80
        assert all(word in "\n".join(lines) for word in label.split())
        assert state == "running" or "killed [/x]" in lines[3]


def test_more_runs_than_a_screen_has_lines_are_counted() -> None:
    runs = [run(f"lr={i}", "running") for i in range(23)] + [run(f"b={i}", "failed", why="no") for i in range(21)]
    lines = shown(sweep(*runs, run("c", "stale", why="killed")))
    assert len(lines) == 4 + 20 + 20 + 1 + 1
    assert lines[-2].split() == ["stale", "c", "killed"]  # not crowded out by the failed ones
    assert lines[-1] == "  and 3 more running, 1 more failed (status --all lists them)"
    assert len(shown(sweep(*runs), show_all=True)) == 4 + 23 + 21


def test_unknown_values_are_blank_and_measures_of_several_kinds_are_named() -> None:
    nothing = RunStatus(Path("outputs/a"), "running", "a")
    lines = shown(sweep(Run("lr=1", nothing, nothing)))
    assert lines[1].endswith("still runs")
    assert lines[4].split() == ["lr=1", "0.0", "?,", "?"]
    lines = shown(sweep(run("a", "running"), run("b", "running", monitor="valid_nll", best=-5.0)))
    assert lines[3].split()[5] == "best"
    assert [line.split()[-4:-2] for line in lines[4:]] == [["valid_ppl", "1.25"], ["valid_nll", "-5"]]


def test_whether_the_launching_process_still_runs_is_reported() -> None:
    ends = {True: "still runs", False: "has ended", None: "may still run: its folder's file system has no locks"}
    for launching, end in ends.items():
        assert shown(sweep(waiting("a"), launching=launching))[1].endswith(f"process 99 {end}")


def test_a_wide_terminal_has_a_bar() -> None:
    half = sweep(run("a", "finished"), run("b", "running"))
    for width, terminal, begin in ((100, True, "━"), (80, True, "1 of 2 finished"), (200, False, "1 of 2 finished")):
        assert shown(half, width=width, terminal=terminal)[2].startswith(begin)


def test_the_latest_sweep_is_last_and_first_in_a_watch_and_runs_of_none_are_at_the_other_end() -> None:
    sweeps = sweep(waiting("a")), replace(sweep(waiting("b")), command=("launch.py", "later"))
    titles = ["no sweep recorded", "python launch.py -m lr=1,10", "python launch.py later"]
    for latest_first in (False, True):
        lines = shown(*sweeps, unplanned=(waiting("c"),), latest_first=latest_first)
        assert [line for line in lines if line in titles] == (titles[::-1] if latest_first else titles)


@pytest.mark.parametrize(
    ("runs", "left"),
    [
        ([run("a", "running")], 10.0),
        ([run("a", "running"), waiting("b"), waiting("c")], 50.0),  # 10 s of a, then 20 s each
        ([run("a", "running"), run("b", "running"), waiting("c"), waiting("d")], 30.0),
        ([run("a", "running"), run("b", "running", epoch=0.0), waiting("c")], 25.0),  # b has 20 s to go
        ([run("a", "finished", elapsed=40.0), run("b", "running"), waiting("c")], 40.0),  # c takes 30 s, the mean
        # What an earlier sweep finished was maybe another budget; a continued attempt is no whole run.
        ([run("a", "finished", elapsed=40.0, sweep="zeroth"), run("b", "running"), waiting("c")], 30.0),
        ([run("a", "running", first_epoch=1.0), run("b", "finished"), waiting("c")], 40.0),
        ([run("a", "running", first_epoch=1.0)], 20.0),
        ([run("a", "running", epoch=1.0), run("b", "running", epoch=3.9)], 30.0),  # the longest decides
        ([run("a", "running", epoch=0.0), waiting("b")], None),
        ([run("a", "finished"), waiting("b")], None),
    ],
)
def test_time_left(runs: list[Run], left: float | None) -> None:
    assert seconds_left(sweep(*runs)) == (None if left is None else pytest.approx(left))
    # Runs that nobody will launch take no time.
    assert seconds_left(sweep(run("a", "running"), waiting("b"), launching=False)) == pytest.approx(10.0)
    assert seconds_left(sweep(run("a", "running", sweep="another"), launching=False)) is None


def test_print_status_of_run_directories(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long, short = outputs / "demo" / "a1", outputs / "demo" / "a2"
    write_status(long, schema.FAILED, error="ValueError: " + "x" * 200)
    write_status(short, schema.FAILED, error="ValueError: no")
    write_plan(outputs, "first", {"lr=1": long, "lr=2": short})
    (write_status(outputs / "demo" / "b2", schema.FINISHED) / schema.STATUS).write_text("{")
    print_status([outputs])
    out, err = capsys.readouterr()
    assert out.startswith("no sweep recorded\n0 of 1 finished, 1 unknown\n")
    assert "\n  failed  lr=1  ValueError: " + "x" * 200 + "\n" in out  # a pipe has room for all
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert err.startswith(f"warning: {outputs}/demo/b2/status.json: ")


@pytest.fixture
def watched(outputs: Path, hold: Hold) -> dict[str, Path]:
    """A sweep that is launched: one run runs, the other waits."""
    runs = {label: outputs / "demo" / name for label, name in (("lr=1", "a1"), ("lr=10", "b2"))}
    hold(write_plan(outputs, "first", runs))
    hold(write_status(runs["lr=1"], schema.RUNNING, epoch=1.0))
    return runs


def script(*steps: Callable[[], object]) -> Callable[[float], None]:
    """A `sleep` that does one step each time it is called."""
    todo = iter(steps)
    return lambda _: next(todo)()  # type: ignore[func-returns-value]


def test_watching_without_a_terminal_prints_a_block_for_each_change_and_rarely_for_progress(
    outputs: Path, watched: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "BLOCK_SECONDS", 3 * display.WATCH_SECONDS)
    first, second = watched.values()
    steps: list[Callable[[], object]] = [lambda: None] * 10
    steps[0] = lambda: write_status(first, schema.RUNNING, epoch=2.0)
    steps[8] = lambda: write_status(first, schema.FAILED, error="ValueError: no")
    steps[9] = lambda: write_status(second, schema.FINISHED)
    watch_status([outputs], sleep=script(*steps))
    printed = capsys.readouterr().out.split("--- ")[1:]
    assert [block.splitlines()[3] for block in printed] == [
        "0 of 2 finished, 1 running, 1 waiting",
        "0 of 2 finished, 1 running, 1 waiting",
        "0 of 2 finished, 1 waiting, 1 failed",
        "1 of 2 finished, 1 failed",
    ]
    assert ["1.0 / 4" in printed[0], "2.0 / 4" in printed[1]] == [True, True]


def test_a_terminal_is_refreshed(outputs: Path, watched: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), width=100, height=30, force_terminal=True, color_system=None)
    monkeypatch.setattr(display, "_console", lambda: terminal)

    def end() -> None:
        for directory in watched.values():
            write_status(directory, schema.FINISHED)
        (write_status(outputs / "demo" / "c3", schema.FINISHED) / schema.STATUS).write_text("{")

    steps = [lambda: write_status(watched["lr=1"], schema.RUNNING, epoch=2.0), end]
    watch_status([outputs], sleep=Mock(side_effect=KeyboardInterrupt))
    assert "finished" in terminal.file.getvalue()  # type: ignore[attr-defined]
    watch_status([outputs], sleep=script(*steps))
    out = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert out.index("1.0 / 4") < out.index("2.0 / 4") < out.index("2 of 2 finished")
    assert "warning: " in out
