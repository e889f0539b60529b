"""What the README promises of the results; minutes long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import analysis

pytestmark = pytest.mark.slow


def launched(root: Path, cwd: Path, *arguments: str) -> None:
    command = [sys.executable, str(root / "launch.py"), "-m", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_default_task_needs_a_K_that_reaches_its_memory_and_adaptive_finds_it(root: Path, tmp_path: Path) -> None:
    """Adaptive below 1.10 validation PPL, K short of the memory above 1.4, on at least 4 of 5 `init`."""
    launched(root, tmp_path, "truncation=adaptive", "init=range(5)")
    launched(root, tmp_path, "truncation.K=3", "init=range(5)")  # with original-buffer it reaches 5 steps of 6
    frame = analysis.load(tmp_path / "outputs")
    best = frame[frame["metric"] == "valid_ppl"].groupby(["truncation", "init"])["value"].min().unstack(0)
    assert len(best) == 5
    assert (best["adaptive"] < 1.10).sum() >= 4, best
    assert (best["fixed"] > 1.4).sum() >= 4, best


def test_the_released_data_trains_at_the_published_size(root: Path, tmp_path: Path, shared: Path) -> None:
    data = shared / "data" / "released_copy" / "released_copy_fixed.npz"
    arguments = ("experiment=copy_fixed", "dataset=arrays", f"dataset.path={data}", "name=released", "epochs=3")
    launched(root, tmp_path, *arguments, "truncation=adaptive,fixed")
    frame = analysis.load(tmp_path / "outputs" / "released")
    assert set(frame["truncation"]) == {"adaptive", "fixed"}
    ppl = frame[frame["metric"] == "valid_ppl"]
    start = ppl.loc[ppl["epoch"] == 0, "value"].min()
    assert (ppl.loc[ppl["epoch"] == 3, "value"] < 0.4 * start).all()
