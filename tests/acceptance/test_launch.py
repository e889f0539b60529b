"""The command line as a user types it, in processes of its own."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import analysis
from atbptt.runs import schema
from tests.helpers.comparing import TABLES, differences, differences_of_a_run, runs

Launch = Callable[..., subprocess.CompletedProcess[str]]
ODD = "br[red]x :smile: [bold]"  # a folder's name that rich would take for markup


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all commands of this module are typed."""
    return tmp_path_factory.mktemp("launched")


@pytest.fixture(scope="module")
def launch(root: Path, folder: Path, tiny: tuple[str, ...]) -> Launch:
    """launch.py with tiny runs."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        typed = sorted([*tiny, *arguments], key=lambda each: each[0] != "-")  # Hydra wants flags first
        command = [sys.executable, str(root / "launch.py"), *typed]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)

    return call


SWEEP = ("truncation=adaptive", "model.dropout=0.2")


@pytest.fixture(scope="module")
def first(launch: Launch) -> subprocess.CompletedProcess[str]:
    """A finished sweep, in a folder with an odd name."""
    return launch("-m", "lr=1,3", *SWEEP, f"output_dir='{ODD}'")


def test_a_sweep_runs_every_job_and_says_so(first: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count("finished     lr=") == 2
    assert f"runs in {ODD}/copy_fixed/, see: python -m analysis table '{ODD}/copy_fixed'" in first.stdout
    texts = {schema.STATUS, schema.CONFIG, schema.ENVIRONMENT, schema.LOG, schema.OUTPUT, schema.LOCK}
    checkpoints = {schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT, schema.BEST}
    found = ((file.name for file in path.iterdir()) for path in runs(folder / ODD).values())
    files = [{name for name in names if not name.startswith("code-")} for names in found]  # of a tree with changes
    assert files == [{*TABLES, *texts, *checkpoints}] * 2


@pytest.mark.usefixtures("first")
def test_the_launcher_does_not_change_a_bit(launch: Launch, folder: Path) -> None:
    """In parallel, one after another in the launching process, and alone."""
    launch("-m", "lr=1,3", *SWEEP, "output_dir=basic", "hydra/launcher=basic")
    launch("lr=3", *SWEEP, "output_dir=alone")
    assert list(differences(folder / "basic", folder / ODD)) == []
    assert list(differences(folder / "alone", folder / ODD, only=runs(folder / "alone"))) == []


@pytest.mark.usefixtures("first")
def test_a_preview_lists_the_runs_and_their_states_and_runs_nothing(launch: Launch, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    for epochs, state in ((2, "finished, to be skipped  2 of 2"), (3, "finished, to be extended  2 of 3")):
        done = launch("-m", "lr=3,10", *SWEEP, f"epochs={epochs}", f"output_dir='{ODD}'", "preview=true")
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        for shown, label in ((state, "lr=3 (lr in force 9.49 at K=10)"), (" new ", "lr=10 (lr in force 31.6 at K=10)")):
            (line,) = (line for line in lines if shown in line)
            assert line.rstrip().endswith(f"  {label}")
        assert lines[-1].startswith(f"2 runs in {ODD}/copy_fixed: ")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_copied_and_edited_file_is_taken_and_said_to_be(launch: Launch, root: Path, folder: Path) -> None:
    """In a sweep, in the preview, by --cfg, and afterwards in the run's own files."""
    mine = folder / "mine" / "model" / "gru.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text((root / "conf" / "model" / "gru.yaml").read_text().replace("layers: 1", "layers: 2"))
    line = f"model/gru.yaml is taken from {folder}/mine, not the shipped one"
    given = ("--config-dir=mine", "model=gru")
    done = launch("-m", *given, "init=0,1", "output_dir=own")
    assert (done.returncode, done.stdout.count(line)) == (0, 1), done.stderr
    for path in runs(folder / "own").values():
        assert "  layers: 2\n" in (path / schema.CONFIG).read_text()
        (attempt,) = json.loads((path / schema.ENVIRONMENT).read_text())["attempts"]
        assert [file["name"] for file in attempt["config_files"]] == ["model/gru.yaml"]
        assert line in (path / schema.LOG).read_text()
    (plan,) = (folder / "own").glob(f"{schema.SWEEPS}/*/{schema.PLAN}")
    assert [len(job["config_files"]) for job in json.loads(plan.read_text())["jobs"]] == [1, 1]
    assert line in launch(*given, "preview=true").stdout
    assert line not in launch("--config-dir=mine", "preview=true").stdout
    assert "  layers: 2\n" in launch(*given, "--cfg=job").stdout


@pytest.mark.usefixtures("first")
def test_the_same_command_skips_finished_runs(launch: Launch) -> None:
    done = launch("-m", "lr=1,3,10", *SWEEP, f"output_dir='{ODD}'")
    assert done.returncode == 0
    assert done.stdout.count("skipped      lr=") == 2
    assert done.stdout.count("finished before: epoch 2 of 2, K ") == 2
    assert done.stdout.count("finished     lr=10") == 1


@pytest.mark.slow
def test_a_rerun_begins_anew_and_keeps_the_runs_where_nothing_counts_them(launch: Launch, folder: Path) -> None:
    command = ("-m", "lr=1", "output_dir=anew", "notes=first, try")
    launch(*command)
    done = launch(*command, "rerun=true")
    assert (done.returncode, done.stderr) == (0, "")
    assert "anew         1 of 1 runs; what is stored of them is kept in anew/copy_fixed/.old/\n" in done.stdout
    assert done.stdout.endswith(": 1 finished\n")
    (path,) = runs(folder / "anew").values()
    (old,) = (path.parent / schema.OLD).iterdir()
    assert list(differences_of_a_run(path, old)) == []
    starts = [json.loads((each / schema.STATUS).read_text())["started"] for each in (path, old)]
    assert starts[0] > starts[1]
    for place, found in ((folder / "anew", path), (path.parent / schema.OLD, old), (old, old)):
        (row,) = analysis.load_status(place).to_dict("records")
        assert (Path(row["directory"]), row["state"]) == (found, schema.FINISHED)


def test_an_option_counts_only_where_it_exists(launch: Launch, folder: Path) -> None:
    done = launch("-m", "arm=K4,K7,delta0.45", "truncation.K_init=4", "output_dir=where")
    assert (done.returncode, done.stderr) == (0, "")
    assert "truncation.K_init counts for truncation=adaptive only\n" in done.stdout
    assert len(runs(folder / "where")) == 3


def test_bad_input_ends_with_one_line_and_1(launch: Launch, folder: Path) -> None:
    done = launch("-m", "lr=1,-1", "output_dir=bad")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ")
    assert not (folder / "bad").exists()


def test_help_is_a_screenful_and_lists_groups_and_commands(launch: Launch) -> None:
    done = launch("--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 40
    assert max(map(len, done.stdout.splitlines())) <= 120
    for text in ("truncation: adaptive, fixed", "model: gru, lstm", "-m truncation=adaptive lr=1,10"):
        assert text in done.stdout


def begun(command: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A sweep whose first run has started in `folder`/out."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**os.environ, **environment}
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, text=True, **pipes)
    deadline = time.monotonic() + 120
    while not list(folder.glob(f"out/*/*/{schema.STATUS}")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_an_edit_during_a_sweep_does_not_change_later_jobs(root: Path, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    shutil.copytree(root / "conf", tmp_path / "conf")
    shutil.copy(root / "launch.py", tmp_path)
    config = tmp_path / "conf" / "config.yaml"
    command = ["launch.py", "-m", *tiny, "output_dir=out", "epochs=20", "hydra/launcher=basic", "lr=1,2"]
    process = begun(command, tmp_path, PYTHONPATH=str(root))
    config.write_text(config.read_text().replace("clip_norm: 1.0 ", "clip_norm: 0.5 "))
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    configs = [(path / schema.CONFIG).read_text() for path in runs(tmp_path / "out").values()]
    assert ["clip_norm: 1.0\n" in text for text in configs] == [True, True]


@pytest.mark.slow
def test_runs_fail_if_their_data_change_during_the_sweep(root: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    """In their own directories, not under the id of other data."""
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("one two three four five\n" * 40)
    size = [option for option in tiny if not option.startswith(("dataset.", "epochs"))]
    data = ["dataset=text", f"dataset.path={tmp_path}", "dataset.batch_size=4", "epochs=50", "output_dir=out"]
    command = [str(root / "launch.py"), "-m", *size, *data, "init=0,1", "hydra.launcher.n_jobs=1"]
    process = begun(command, tmp_path, ATBPTT_CACHE=str(tmp_path / "cache"))
    with open(tmp_path / "train.txt", "a") as file:
        file.write("one more line\n")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    (plan,) = (tmp_path / "out").glob(f"{schema.SWEEPS}/*/{schema.PLAN}")
    ids = {job["experiment_id"] for job in json.loads(plan.read_text())["jobs"]}
    assert {path.name for path in runs(tmp_path / "out").values()} == ids
    rule = f"ConfigError: dataset.path (={tmp_path}) holds other data than when the sweep began"
    assert f"failed       init=1: {rule}" in printed


def test_documents_of_characters_that_begin_anew_are_trained(root: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"text/{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"text/{number % 3}/{number}.txt").write_text("déjà vu\n" * 3)  # 24 characters
    (tmp_path / "text" / "one.txt").write_text("x")
    size = [option for option in tiny if not option.startswith("dataset.")]
    data = ["dataset=text", "dataset.path=text", "dataset.split=[0.6,0.2,0.2]", "dataset.batch_size=4"]
    chosen = ["dataset.unit=character", "dataset.resets=true", "truncation=adaptive", "output_dir=out"]
    command = [sys.executable, str(root / "launch.py"), *size, *data, *chosen]
    environment = {**os.environ, "ATBPTT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = runs(tmp_path / "out").values()
    assert json.loads((path / schema.STATUS).read_text())["state"] == "finished"
    log = (path / schema.LOG).read_text()
    assert "vocabulary: 9 characters" in log
    assert "documents of train, valid, test: 18, 6, 7" in log
    assert "test: documents of one character, left out: 1" in log


@pytest.mark.parametrize("end", ["| head -n 1", pytest.param("<&- >&- 2>&-", marks=pytest.mark.slow)])
def test_nobody_needs_to_read_the_output(root: Path, tmp_path: Path, tiny: tuple[str, ...], end: str) -> None:
    """In a pipe that is closed, or with all of a terminal's files closed, the runs go on."""
    command = shlex.join([sys.executable, str(root / "launch.py"), "-m", *tiny, "init=0,1", "output_dir=out"])
    subprocess.run(["bash", "-c", f"{command} {end}"], cwd=tmp_path, timeout=300)
    statuses = [json.loads((path / schema.STATUS).read_text()) for path in runs(tmp_path / "out").values()]
    assert [status["state"] for status in statuses] == ["finished"] * 2
