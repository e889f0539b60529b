"""The command line as a user types it, in processes of its own."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from atbptt.runs import schema

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def launch(root: Path, tmp_path: Path, tiny: tuple[str, ...]) -> Launch:
    """launch.py from another folder, with tiny runs stored under tmp_path/out."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        flags = [argument for argument in arguments if argument.startswith("-")]  # Hydra wants them first
        rest = [argument for argument in arguments if argument not in flags]
        command = [sys.executable, str(root / "launch.py"), *flags, *tiny, "output_dir=out", *rest]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return call


def runs(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in folder.glob("*/*/status.json")}


def test_a_sweep_runs_every_job_says_so_and_skips_them_the_next_time(launch: Launch, tmp_path: Path) -> None:
    done = launch("-m", "truncation=adaptive", "lr=1,10")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("finished     lr=") == 2
    assert "python -m analysis table out/copy_fixed" in done.stdout
    found = runs(tmp_path / "out")
    assert len(found) == 2
    for path in found.values():
        assert {f.name for f in path.iterdir()} == {
            schema.OPTIONS, schema.METRICS, schema.GRADIENTS, schema.POSITIONS, schema.PREDICTIONS,
            schema.STATUS, schema.CONFIG,
            schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT, schema.ENVIRONMENT, schema.LOG, schema.OUTPUT, schema.LOCK,
        }  # fmt: skip
    again = launch("-m", "truncation=adaptive", "lr=1,10,3")
    assert again.returncode == 0
    assert again.stdout.count("skipped      lr=") == 2
    assert again.stdout.count("finished before: epoch 2 of 2, K ") == 2
    assert again.stdout.count("finished     lr=3") == 1
    assert len(runs(tmp_path / "out")) == 3


def test_the_launcher_does_not_change_a_bit(launch: Launch, tmp_path: Path) -> None:
    """Side by side, by joblib's workers, one after another in the launching process, and alone."""
    sweep = ("truncation=adaptive", "model.dropout=0.2")
    launch("-m", "lr=1,3", *sweep, "output_dir=local")
    launch("-m", "lr=1,3", *sweep, "output_dir=joblib", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    launch("-m", "lr=1,3", *sweep, "output_dir=basic", "hydra/launcher=basic")
    launch("lr=3", *sweep, "output_dir=alone")
    local, joblib, basic, alone = (runs(tmp_path / name) for name in ("local", "joblib", "basic", "alone"))
    assert len(local) == 2
    assert set(local) == set(joblib) == set(basic)
    assert set(alone) < set(local)
    for name, path in local.items():
        for other in (joblib[name], basic[name], alone.get(name, basic[name])):
            frames = []
            for folder in (path, other):
                frame = pq.read_table(folder / schema.METRICS).to_pandas().drop(columns="train_seconds")
                frames.append(frame[frame["metric"] != "steps_per_second"].reset_index(drop=True))
            assert frames[0].equals(frames[1])
            ours, theirs = (torch.load(folder / schema.CHECKPOINT)["model"] for folder in (path, other))
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_run_that_fails_leaves_the_others_alone(launch: Launch, tmp_path: Path) -> None:
    done = launch("-m", "model=rnn_relu", "clip_norm=null", "lr=1e9,0.01")
    assert done.returncode == 1
    assert "finished     lr=0.01" in done.stdout
    assert "failed       lr=1000000000.0: DivergedError: the training loss is not finite" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    states = sorted(json.loads((p / schema.STATUS).read_text())["state"] for p in runs(tmp_path / "out").values())
    assert states == ["failed", "finished"]
    assert "tracebacks: python -m analysis failures out/copy_fixed" in done.stdout
    assert "2 runs in " in done.stdout
    assert done.stdout.endswith(": 1 finished, 1 failed\n")


def test_bad_input_ends_with_a_message_and_1_before_anything_is_made(launch: Launch, tmp_path: Path) -> None:
    for arguments in (["truncation.K=0"], ["-m", "lr=1,-1"]):
        done = launch(*arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


def test_help_is_a_screenful_and_lists_groups_and_commands(launch: Launch) -> None:
    done = launch("--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 40
    assert max(map(len, done.stdout.splitlines())) <= 120
    for text in ("truncation: adaptive, fixed", "model: gru, lstm", "-m truncation=adaptive lr=1,10"):
        assert text in done.stdout


def test_an_edit_during_a_sweep_does_not_reach_the_jobs_to_come(
    root: Path, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    shutil.copytree(root / "conf", tmp_path / "conf")
    shutil.copy(root / "launch.py", tmp_path)
    config = tmp_path / "conf" / "config.yaml"
    sweep = ["-m", *tiny, "output_dir=out", "epochs=40", "hydra/launcher=basic", "lr=1,2"]  # one after another
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "launch.py"), *sweep],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not runs(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(runs(tmp_path / "out")) == 1
    config.write_text(config.read_text().replace("clip_norm: 1.0 ", "clip_norm: 0.5 "))
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    found = runs(tmp_path / "out").values()
    assert len(found) == 2
    assert all("clip_norm: 1.0\n" in (path / schema.CONFIG).read_text() for path in found)


def test_a_run_that_another_process_holds_is_said_to_run_there(launch: Launch, tmp_path: Path) -> None:
    launch("epochs=1")
    (path,) = runs(tmp_path / "out").values()
    with open(path / schema.LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = launch("epochs=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "running      " in done.stdout
    assert ": by process " in done.stdout


def test_a_preview_lists_what_would_run_and_runs_nothing(launch: Launch, tmp_path: Path) -> None:
    launch("lr=1", "epochs=1")
    launch("lr=3")
    before = sorted(tmp_path.rglob("*"))
    done = launch("-m", "lr=1,3,10", "preview=true")
    assert (done.returncode, done.stderr) == (0, "")
    (longer,) = [line for line in done.stdout.splitlines() if line.rstrip().endswith(" lr=1")]
    assert "finished, to be extended  1 of 2" in longer
    assert sum("finished, to be skipped   2 of 2" in line for line in done.stdout.splitlines()) == 1
    assert sum(" new " in line for line in done.stdout.splitlines()) == 1
    ids = set(runs(tmp_path / "out"))
    assert ids < {line.split()[0] for line in done.stdout.splitlines()}
    assert done.stdout.splitlines()[-1].startswith("3 runs in out/copy_fixed: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_data_that_change_during_a_sweep_fail_the_runs_that_would_read_them(
    root: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their own directories, not under the id of other data."""
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("one two three four five\n" * 40)
    size = [option for option in tiny if not option.startswith(("dataset.", "epochs"))]
    data = ["dataset=text", f"dataset.path={tmp_path}", "dataset.batch_size=4", "epochs=100", "output_dir=out"]
    command = [sys.executable, str(root / "launch.py"), "-m", *size, *data, "init=0,1", "hydra.launcher.n_jobs=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not runs(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.05)
    with open(tmp_path / "train.txt", "a") as file:
        file.write("one more line\n")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    (plan,) = (tmp_path / "out").glob(f"{schema.SWEEPS}/*/{schema.PLAN}")
    assert set(runs(tmp_path / "out")) == {job["experiment_id"] for job in json.loads(plan.read_text())["jobs"]}
    assert "failed       init=1: ConfigError: dataset.path holds other data than when the sweep began" in errors


def test_names_are_printed_as_they_are(launch: Launch, tmp_path: Path) -> None:
    """Not as markup; and quoted in commands."""
    folder = "br[red]x :smile: [bold]"
    done = launch(f"output_dir='{folder}'")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert f"runs in {folder}/copy_fixed/, see: python -m analysis table '{folder}/copy_fixed'" in done.stdout


def test_nobody_needs_to_read_what_is_printed(root: Path, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    """Behind `| head -1`, or with all of a terminal's files closed, the runs go on."""
    command = [sys.executable, str(root / "launch.py"), "-m", *tiny, "output_dir=out"]
    for number, end in enumerate(("| head -n 1", "<&- >&- 2>&-")):
        swept = f"init={','.join(map(str, range(number + 2)))}"
        subprocess.run(
            ["bash", "-c", f"{shlex.join([*command, swept])} {end}"], cwd=tmp_path, timeout=300, check=number > 0
        )
        states = [json.loads((path / schema.STATUS).read_text())["state"] for path in runs(tmp_path / "out").values()]
        assert states == ["finished"] * (number + 2)


def test_real_text_is_trained_and_what_is_wrong_with_it_is_reported(
    root: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run, a damaged cache, a file that is not UTF-8: a warning, then an error before anything is written."""
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("one two three four five\n" * 40)
    size = [option for option in tiny if not option.startswith("dataset.")]
    options = [*size, "dataset=text", f"dataset.path={tmp_path}", "dataset.batch_size=4", "output_dir=out"]

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(root / "launch.py"), *options, *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    done = call("model.embedding=6", "model.tied=true")
    assert (done.returncode, done.stderr) == (0, "")
    assert "finished" in done.stdout
    (cached,) = (tmp_path / "cache").glob("*.int32")
    cached.write_bytes(b"")
    done = call("init=1")
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: the cache {cached} is damaged (")
    assert len(done.stderr.splitlines()) == 1
    (tmp_path / "valid.txt").write_bytes(b"one\nna\xefve\n")
    before = runs(tmp_path / "out")
    done = call("init=2")
    assert done.returncode == 1
    expected = (
        f"error: dataset.path (={tmp_path}) cannot be read: line 2 of valid.txt is not UTF-8: byte 0xef at position 3"
    )
    assert done.stderr.strip() == expected
    assert runs(tmp_path / "out") == before


def test_a_published_data_set_that_is_not_there_is_reported_with_its_command(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "launch.py"), "experiment=book_order"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("error: dataset.path (=data/book_order) must be a folder; python -m atbptt.datasets")
    assert done.stderr.endswith("fetch book_order gets it\n")
    assert not (tmp_path / "outputs").exists()
