import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atbptt.config.jobs import ConfigFile
from atbptt.config.settings import Settings
from atbptt.errors import ConfigError
from atbptt.runs import Origin, schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.provenance import code
from atbptt.runs.sweep import Job, made_sweep, planned, recorded
from atbptt.system import locks
from atbptt.system.files import StorageError


@pytest.fixture
def jobs(settings: Callable[..., Settings]) -> list[Job]:
    made = [settings(f"init={i}") for i in range(3)]
    files = [ConfigFile("model/gru.yaml", "/mine", True)]
    names = {"exclude_keys": [], "item_sep": ",", "kv_sep": "="}
    hydra = {"launcher": {}, "job": {"config": {"override_dirname": names}}, "overrides": {}, "runtime": {}}
    return [
        Job(f"init={i}", [f"init={i}"], each, RunDirectory(each), files[: i % 2], hydra) for i, each in enumerate(made)
    ]


def test_a_plan_has_all_jobs_and_numbers_those_that_are_launched(jobs: list[Job], tmp_path: Path) -> None:
    launched = [jobs[1], jobs[2]]
    with made_sweep(str(tmp_path)) as sweep, recorded(sweep, jobs, launched, "lr: 1\n", rerun=True):
        assert sweep.parent == tmp_path / ".sweeps"
        assert sweep.name.endswith(f"_{os.getpid()}")
        assert locks.is_held(sweep / schema.LOCK)
        for number, job in enumerate((jobs[1], jobs[2])):
            settings, origin, part = planned(sweep, number)  # type: ignore[misc]
            assert (settings, part) == (job.settings, job.hydra_part(number))
            assert (origin.sweep, origin.code, origin.config_files) == (sweep.name, code(), job.files)
            assert (origin.diffs, origin.rerun) == (sweep, True)
        assert planned(sweep, 2) is None
    assert not locks.is_held(sweep / schema.LOCK)
    plan = json.loads((sweep / schema.PLAN).read_text())
    assert [entry["label"] for entry in plan["jobs"]] == ["init=0", "init=1", "init=2"]
    assert (sweep / plan["jobs"][1]["path"]).resolve() == jobs[1].directory.path
    assert "launcher" in plan["hydra"]["shared"]
    assert [part["job"]["num"] for part in plan["hydra"]["own"]] == [0, 1]
    assert (sweep / "multirun.yaml").read_text() == "lr: 1\n"


@pytest.mark.parametrize("begun", [False, True])
def test_a_sweep_that_is_refused_leaves_nothing_unless_a_run_has_begun(
    jobs: list[Job], tmp_path: Path, begun: bool
) -> None:
    output = tmp_path / "new" / "outputs"

    def launch() -> None:
        with made_sweep(str(output)) as sweep, recorded(sweep, jobs, jobs, "lr: 1\n"):
            (sweep / ".submitit").mkdir()
            if begun:
                jobs[1].directory.make()
                jobs[1].directory.begin(Origin(sweep.name))
            raise ConfigError("launcher", "takes no more")

    with pytest.raises(ConfigError, match="takes no more"):
        launch()
    assert (output / schema.SWEEPS).exists() == (tmp_path / "new").exists() == begun


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": [], "launched": [0]}'])
def test_a_broken_plan_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / schema.PLAN).write_text(text)
    assert planned(tmp_path, 0) is None


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / ".sweeps")
    with pytest.raises(StorageError, match=r"\.sweeps cannot be made: File exists$"), made_sweep(str(tmp_path)):
        pytest.fail("made")


def test_sweeps_of_the_same_second_have_their_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on two machines, or after a clock was set back."""
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    with made_sweep(str(tmp_path)) as first, made_sweep(str(tmp_path)) as second, made_sweep(str(tmp_path)) as third:
        paths = [first, second, third]
    assert not any(tmp_path.iterdir())  # nothing was stored there
    assert [path.name.removeprefix(f"now_{os.getpid()}") for path in paths] == ["", "_2", "_3"]
