"""A user's policy, edited between sweeps and during one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atbptt.runs import schema
from tests.helpers.comparing import runs

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]
# Prints which versions of itself and of its helper a run has.
POLICY = """
class Mine:
    def __init__(self, K: int):
        self.K = K
        self.number = None

    def update(self, progress, probe):
        if self.number is None:
            from helper import number
            self.number = number
            print("policy one, helper", number)
"""
HELPER = "number = 'one'\n"


@pytest.fixture
def start(tmp_path: Path, root: Path, tiny: tuple[str, ...]) -> Start:
    """Starts launch.py with the policy in its folder, where the runs are stored in `out`."""
    (tmp_path / "policy.py").write_text(POLICY)
    (tmp_path / "helper.py").write_text(HELPER)

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(root / "launch.py"), "-m", *tiny, "truncation._target_=policy.Mine"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command += ["output_dir=out", *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)

    return begin


def edit(folder: Path) -> None:
    (folder / "policy.py").write_text(POLICY.replace("policy one", "policy two"))
    (folder / "helper.py").write_text(HELPER.replace("one", "two"))


def printed(folder: Path) -> list[str]:
    return [(path / schema.OUTPUT).read_text() for path in runs(folder / "out").values()]


def test_an_edited_policy_is_not_skipped_and_does_not_continue_the_runs_of_the_one_before(
    start: Start, tmp_path: Path
) -> None:
    def said(*arguments: str) -> str:
        process = start(*arguments)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return output

    said("epochs=1")
    (tmp_path / "policy.py").write_text(f"# a comment\n{POLICY}")
    assert "1 skipped" in said("epochs=1")
    edit(tmp_path)
    assert "1 finished" in said("epochs=2")
    assert sorted(printed(tmp_path)) == ["policy one, helper one\n", "policy two, helper two\n"]
    statuses = [json.loads((path / schema.STATUS).read_text()) for path in runs(tmp_path / "out").values()]
    assert sorted((status["attempt"], status["first_epoch"], status["epoch"]) for status in statuses) == [
        (1, 0, 1),
        (1, 0, 2),
    ]


def test_an_edit_during_a_sweep_does_not_reach_its_later_runs(start: Start, tmp_path: Path) -> None:
    process = start("epochs=40", "init=range(3)", "hydra.launcher.n_jobs=1")
    while not list(tmp_path.glob(f"out/*/*/{schema.METRICS}")) and process.poll() is None:
        time.sleep(0.02)
    waiting = len(runs(tmp_path / "out"))
    edit(tmp_path)
    output, _ = process.communicate(timeout=120)
    assert waiting < 3, "it was too fast to be edited"
    assert process.returncode == 0, output
    assert printed(tmp_path) == ["policy one, helper one\n"] * 3
    stored = [path.joinpath(schema.SOURCE, "helper.py").read_text() for path in runs(tmp_path / "out").values()]
    assert stored == [HELPER] * 3
