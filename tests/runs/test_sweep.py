from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atbptt.config.settings import Settings
from atbptt.runs import schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.provenance import code
from atbptt.runs.sweep import PLAN_VARIABLE, Job, SweepDirectory, planned
from atbptt.system import locks
from atbptt.system.files import StorageError


@pytest.fixture
def jobs(settings: Callable[..., Settings]) -> list[Job]:
    made = [settings(f"init={i}") for i in range(3)]
    return [Job(f"init={i}", [f"init={i}"], each, RunDirectory(each)) for i, each in enumerate(made)]


def test_a_plan_has_all_jobs_and_numbers_those_that_are_launched(jobs: list[Job], tmp_path: Path) -> None:
    sweep = SweepDirectory.make(jobs[0])
    assert sweep.path.parent == tmp_path / ".sweeps"
    assert sweep.path.name.endswith(f"_{os.getpid()}")
    with sweep.recorded(jobs, [jobs[0], jobs[2]], "lr: 1\n"):
        assert locks.is_held(sweep.path / schema.LOCK)
        for number, job in enumerate((jobs[0], jobs[2])):
            found = planned(number)
            assert found is not None
            assert found[0] == job.settings
            assert (found[1].sweep, found[1].code) == (sweep.path.name, code())
        assert planned(2) is None
    assert planned(0) is None
    assert PLAN_VARIABLE not in os.environ
    assert not locks.is_held(sweep.path / schema.LOCK)
    plan = json.loads((sweep.path / schema.PLAN).read_text())
    assert [entry["label"] for entry in plan["jobs"]] == ["init=0", "init=1", "init=2"]
    assert (sweep.path / plan["jobs"][1]["path"]).resolve() == jobs[1].directory.path
    assert (sweep.path / "multirun.yaml").read_text() == "lr: 1\n"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": [], "launched": [0]}'])
def test_a_broken_plan_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / f"{abs(hash(text))}.json"
    path.write_text(text)
    monkeypatch.setenv(PLAN_VARIABLE, str(path))
    assert planned(0) is None


def test_a_folder_that_cannot_be_made_is_reported(jobs: list[Job], tmp_path: Path) -> None:
    (tmp_path / ".sweeps").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot be made: "):
        SweepDirectory.make(jobs[0])


def test_two_sweeps_of_the_same_second_and_process_number_have_two_folders(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on two machines, or when a clock was put back."""
    monkeypatch.setattr(time, "strftime", lambda _: "2026-11-24_12-00-00")
    paths = [SweepDirectory.make(jobs[0]).path for _ in range(3)]
    assert [path.name.removeprefix(f"2026-11-24_12-00-00_{os.getpid()}") for path in paths] == ["", "_2", "_3"]
