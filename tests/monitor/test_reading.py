import json
import shutil
from pathlib import Path

import pytest

from atbptt.errors import AnalysisError
from atbptt.monitor.reading import Reader, Report, Sweep
from atbptt.runs import schema
from tests.conftest import Hold
from tests.helpers.made import COMMAND, write_plan, write_status


@pytest.fixture
def runs(outputs: Path) -> dict[str, Path]:
    """A sweep of three: one finished, one killed, one not begun."""
    directories = {f"lr={lr}": outputs / "demo" / name for lr, name in ((1, "a1"), (10, "b2"), (100, "c3"))}
    write_status(directories["lr=1"], schema.FINISHED, sweep="first", heartbeat=1500.0)
    write_status(directories["lr=10"], schema.RUNNING, sweep="first", heartbeat=1500.0)
    return directories


def states(sweep: Sweep) -> dict[str, str]:
    return {run.label: run.status.state for run in sweep.runs}


def read(*paths: Path) -> Report:
    return Reader(paths).read()


def test_a_sweep_is_its_plan_and_the_state_of_its_runs(outputs: Path, runs: dict[str, Path], hold: Hold) -> None:
    folder = write_plan(outputs, "first", runs)
    report = read(outputs)
    (sweep,) = report.sweeps
    assert (sweep.name, sweep.command, sweep.started) == ("first", COMMAND, 1000.0)
    assert (sweep.host, sweep.pid) == ("node0.cluster", 99)
    assert sweep.launching is False
    assert states(sweep) == {"lr=1": "finished", "lr=10": "stale", "lr=100": "waiting"}
    assert [run.last.directory for run in sweep.runs] == list(runs.values())
    assert (report.unplanned, report.problems) == ((), ())
    hold(folder)
    assert read(outputs).sweeps[0].launching is True


def test_runs_that_are_to_begin_anew_wait_while_their_sweep_is_launching(
    outputs: Path, runs: dict[str, Path], hold: Hold
) -> None:
    """And are what they were before if it ends without having begun them."""
    folder = write_plan(outputs, "second", runs, started=2000.0, rerun=True)
    assert states(read(outputs).sweeps[0])["lr=1"] == "finished"
    hold(folder)
    assert states(read(outputs).sweeps[0]) == dict.fromkeys(runs, "waiting")
    write_status(runs["lr=1"], schema.FINISHED, sweep="second", heartbeat=2500.0)
    assert states(read(outputs).sweeps[0])["lr=1"] == "finished"


def test_only_runs_below_the_path_count(outputs: Path, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(outputs, "first", runs)
    other = {"lr=2": write_status(outputs / "demo2" / "d4", schema.FINISHED)}
    write_plan(outputs, "other", other)
    for place, shown in ((".", runs | other), ("demo", runs), ("demo/b2", {"lr=10": runs["lr=10"]})):
        report = read(outputs / place)
        assert {run.label: run.last.directory for run in report.runs} == shown
        assert len(report.sweeps) == (2 if place == "." else 1)
    monkeypatch.chdir(outputs.parent)
    assert str(read(Path("outputs")).runs[0].last.directory) == "outputs/demo/a1"
    assert not read(Path("outputs")).unplanned


def test_sweeps_are_found_at_any_depth_and_in_the_folders_above(outputs: Path, runs: dict[str, Path]) -> None:
    write_plan(outputs, "first", runs)
    assert [sweep.name for sweep in read(outputs.parent).sweeps] == ["first"]
    deep = outputs / "more" / "of" / "it"
    write_plan(deep, "second", {"lr=2": write_status(deep / "demo" / "d4", schema.FINISHED)})
    report = read(outputs.parent)
    assert {sweep.name for sweep in report.sweeps} == {"first", "second"}
    assert not report.unplanned


def test_through_a_link_it_is_the_same(outputs: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    write_plan(outputs, "first", runs)
    (tmp_path / "link").symlink_to(outputs)
    link = tmp_path / "link" / "demo"
    assert [run.last.directory for run in read(link).runs] == [link / directory.name for directory in runs.values()]
    assert [sweep.name for sweep in read(link).sweeps] == ["first"]
    (tmp_path / "experiment").symlink_to(outputs / "demo")
    report = read(tmp_path / "experiment", outputs / "demo")  # the same folder twice
    assert [len(sweep.runs) for sweep in report.sweeps] == [len(report.runs)] == [3]


def test_runs_that_no_plan_names_are_a_group_of_their_own(outputs: Path, runs: dict[str, Path]) -> None:
    write_plan(outputs, "first", runs)
    alone = write_status(outputs / "alone" / "d4", schema.FAILED, error="ValueError: no")
    report = read(outputs)
    assert [(run.label, run.last.state) for run in report.unplanned] == [("alone/d4", "failed")]
    assert [run.label for run in read(alone).unplanned] == ["d4"]
    assert len(report.runs) == 4
    shutil.rmtree(alone)
    assert len(read(outputs).runs) == 3


def test_the_same_command_again_takes_the_sweep_over(outputs: Path, runs: dict[str, Path]) -> None:
    write_plan(outputs, "second", runs, started=2000.0)
    write_plan(outputs, "first", runs, started=1000.0)
    assert [sweep.name for sweep in read(outputs).sweeps] == ["second"]
    more = {**runs, "lr=3": outputs / "demo" / "d4"}
    write_plan(outputs, "third", more, started=3000.0)
    assert [sweep.name for sweep in read(outputs).sweeps] == ["third"]
    write_plan(outputs, "fourth", {"other": runs["lr=1"]}, started=4000.0)
    report = read(outputs)
    assert [sweep.name for sweep in report.sweeps] == ["third", "fourth"]
    assert [run.label for run in report.runs] == ["other", "lr=10", "lr=100", "lr=3"]  # the latest plan names it
    # Of what the path shows: all that is left of the third is in the fourth.
    assert [sweep.name for sweep in read(runs["lr=1"]).sweeps] == ["fourth"]


def test_a_sweep_that_is_still_launched_is_not_taken_over(outputs: Path, runs: dict[str, Path], hold: Hold) -> None:
    hold(write_plan(outputs, "first", runs, started=1000.0))
    write_plan(outputs, "second", runs, started=2000.0)
    assert [sweep.name for sweep in read(outputs).sweeps] == ["first"]
    hold(outputs / schema.SWEEPS / "second")
    assert [sweep.name for sweep in read(outputs).sweeps] == ["first", "second"]


def test_what_an_earlier_sweep_left_waits_for_a_later_one(outputs: Path, runs: dict[str, Path], hold: Hold) -> None:
    folder = write_plan(outputs, "second", runs, started=2000.0)
    assert states(read(outputs).sweeps[0])["lr=10"] == "stale"
    hold(folder)
    (sweep,) = read(outputs).sweeps
    assert states(sweep) == {"lr=1": "finished", "lr=10": "waiting", "lr=100": "waiting"}
    assert sweep.runs[1].last.why == "killed at epoch 2"
    assert sweep.runs[1].status.why is None
    write_status(runs["lr=10"], schema.FAILED, sweep="second", heartbeat=1900.0)  # of this sweep
    write_status(runs["lr=100"], schema.FAILED, sweep=None, heartbeat=2100.0)  # before it said whose it is
    assert states(read(outputs).sweeps[0]) == {"lr=1": "finished", "lr=10": "failed", "lr=100": "failed"}
    write_plan(outputs, "third", {"a": runs["lr=1"], "b": outputs / "demo" / "d4"}, epochs=5.0, started=3000.0)
    assert states(read(outputs).sweeps[1]) == {"a": "waiting", "b": "waiting"}  # for a larger budget
    plan = (outputs / schema.SWEEPS / "third" / schema.PLAN).read_text()
    write_status(runs["lr=1"], schema.FINISHED, waited=0.5)
    for patience, state in ((0.5, "finished"), (1.0, "waiting")):
        (outputs / schema.SWEEPS / "third" / schema.PLAN).write_text(
            plan.replace("null", f'null, "patience": {patience}')
        )
        assert states(read(outputs).sweeps[1]) == {"a": state, "b": "waiting"}


def test_pending_is_what_runs_or_will_be_launched(outputs: Path, runs: dict[str, Path], hold: Hold) -> None:
    folder = write_plan(outputs, "first", runs)
    assert not read(outputs).pending  # the one that waits waits for nobody
    hold(runs["lr=10"])
    write_status(runs["lr=10"], schema.RUNNING)
    assert read(outputs).pending
    write_status(runs["lr=10"], schema.FINISHED)
    assert not read(outputs).pending
    hold(folder)
    assert read(outputs).pending
    write_status(runs["lr=100"], schema.FINISHED)
    assert not read(outputs).pending


def test_broken_files_are_reported_and_the_rest_is_shown(outputs: Path, runs: dict[str, Path]) -> None:
    write_plan(outputs, "first", runs)
    broken = {
        "a": "{",
        "b": "[]",
        "c": json.dumps({"jobs": []}),
        "d": json.dumps({"jobs": [{"label": "x", "path": "../../demo/x", "settings": []}]}),
        "e": json.dumps({"jobs": [], "command": [], "host": "h", "pid": 1, "started": "yesterday"}),
    }
    for name, content in broken.items():
        folder = outputs / schema.SWEEPS / name
        folder.mkdir()
        (folder / schema.PLAN).write_text(content)
    (outputs / schema.SWEEPS / "without a plan").mkdir()
    (runs["lr=10"] / schema.STATUS).write_text("{")
    report = read(outputs)
    assert [sweep.name for sweep in report.sweeps] == ["first"]
    assert states(report.sweeps[0])["lr=10"] == "unknown"
    *plans, other = report.problems
    for name, problem in zip(broken, plans, strict=True):
        assert problem.startswith(f"{outputs}/.sweeps/{name}/plan.json: ")
        assert problem.endswith("lacks 'command'; sweep skipped" if name == "c" else "; sweep skipped")
    assert other.startswith(f"{runs['lr=10']}/status.json: Expecting property name")


def test_a_reader_rereads_only_changes(outputs: Path, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader([outputs])
    assert len(reader.read().unplanned) == 2
    write_plan(outputs, "first", runs)
    alone = write_status(outputs / "alone" / "d4", schema.FINISHED)
    report = reader.read()
    assert [states(sweep)["lr=100"] for sweep in report.sweeps] == ["waiting"]
    assert [run.label for run in report.unplanned] == ["alone/d4"]
    monkeypatch.delattr("atbptt.monitor.reading.read_plan")
    again = reader.read()
    assert again == report
    assert again.sweeps[0].runs[0].last is report.sweeps[0].runs[0].last
    write_status(runs["lr=100"], schema.FAILED, error="ValueError: no")
    shutil.rmtree(alone)
    report = reader.read()
    assert states(report.sweeps[0])["lr=100"] == "failed"
    assert not report.unplanned
    shutil.rmtree(outputs / schema.SWEEPS)
    assert not reader.read().sweeps


def test_bad_paths(outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="nowhere: does not exist"):
        Reader([tmp_path / "nowhere"])
    (tmp_path / "file").touch()
    with pytest.raises(AnalysisError, match="file: is a file; give a run directory or a folder of them"):
        Reader([tmp_path, tmp_path / "file"])
    outputs.mkdir()
    with pytest.raises(AnalysisError, match="outputs: no run directories here or below, and no sweep that plans any"):
        read(outputs)
