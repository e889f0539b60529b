"""Sweeps with crashes, signals, full and read-only disks, and damaged files.

Each is compared with the same sweep, undisturbed. The model is a user's own that can crash or be slow.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from atbptt.runs import read_checkpoint, schema
from tests.helpers.comparing import differences, runs
from tests.helpers.launched import Sweep, parent_of

pytestmark = pytest.mark.slow

EPOCHS = 6
EVALUATE_EVERY = 3
EPOCH_STEPS = 60  # as in tests/conftest.py

Make = Callable[..., Sweep]
Damages = dict[str, tuple[dict[str, bytes | Callable[[bytes], bytes] | None], str]]


@pytest.fixture(scope="session")
def make(root: Path, tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> Iterator[Make]:
    """`make(folder, *swept, **environment)` makes a sweep of a user's model, whose processes are killed at the end."""
    mine = tmp_path_factory.mktemp("mine")
    shutil.copy(root / "tests" / "helpers" / "fragile.py", mine)
    (mine / "model").mkdir()
    text = "name: fragile\n_target_: fragile.Fragile\nending: none\nhidden: 6\n"
    (mine / "model" / "fragile.yaml").write_text(text)
    made = []

    def sweep(folder: Path, *swept: str, **environment: str) -> Sweep:
        trained = ["model=fragile", "optimizer=momentum", "lr=1", "truncation.K=5"]
        budget = [f"epochs={EPOCHS}", f"evaluate_every={EVALUATE_EVERY}"]
        arguments = ["--config-dir", str(mine), *tiny, *trained, *budget, *swept]
        made.append(Sweep(folder, *arguments, environment={"PYTHONPATH": str(mine), **environment}))
        return made[-1]

    yield sweep
    for sweep_made in made:
        sweep_made.clear()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """With another bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


# By name: what happens to the files of an unfinished or a finished run (None: they go), and what its log says then.
LAST = "checkpoint.pt is damaged and left out"
BOTH = "no checkpoint can be read: the run begins anew"
RESTORED = "restored from"
NONSENSE = b'{"state": "finished", "epoch": "all", "attempt": null, "error": 3, "epochs": []}'
WRITTEN_AGAIN = {schema.OPTIONS: half, schema.CONFIG: half, schema.ENVIRONMENT: half, schema.STATUS: NONSENSE}
UNFINISHED: Damages = {
    "checkpoint": ({schema.CHECKPOINT: flipped}, LAST),
    "both checkpoints": ({schema.CHECKPOINT: half, schema.PREVIOUS_CHECKPOINT: b""}, BOTH),
    "metrics missing": ({schema.METRICS: None, schema.CHECKPOINT: half}, RESTORED),
    "other files": (
        {**WRITTEN_AGAIN, f".{schema.METRICS}.elsewhere.1.tmp": b"x", schema.LOCK: b"1\n"},
        "continues from",
    ),
}
FINISHED: Damages = {
    "metrics": ({schema.METRICS: flipped}, RESTORED),
    "all": ({schema.METRICS: half, schema.CHECKPOINT: half, schema.PREVIOUS_CHECKPOINT: b""}, BOTH),
    "status": ({schema.STATUS: b""}, "continues from"),
}
COUNT = len(UNFINISHED)


@pytest.fixture(scope="session")
def undisturbed(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of an undisturbed sweep; the processes of pytest-xdist share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    sweep = make(folder, f"init=range({COUNT})")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not sweep.output.exists():
            assert sweep.run() == 0, sweep.terminal
    best = {status["best_epoch"] for status in sweep.statuses().values()}
    assert EVALUATE_EVERY in best, "no run gets worse: what a lost `best` changes would not be seen"
    return sweep.output


def wrong(sweep: Sweep, undisturbed: Path, count: int) -> list[str]:
    """Differences from the first `count` runs of the undisturbed sweep, and leftovers."""
    only = [name for name, path in runs(undisturbed).items() if init(path) < count]
    left = [f"left behind: {path}" for path in sweep.output.rglob(".*.tmp")]
    shown = ["a traceback was shown"] if "Traceback" in sweep.terminal else []
    return [*left, *shown, *differences(sweep.output, undisturbed, only)]


def init(run: Path) -> int:
    return int(pq.ParquetFile(run / schema.OPTIONS).read()["init"][0].as_py())


def checkpoint_step(run: Path) -> int:
    """The training step at which a run would continue."""
    state = read_checkpoint(run / schema.CHECKPOINT)
    return int(state["epochs_done"] * EPOCH_STEPS + state["position"])


def test_damaged_files_are_repaired_and_the_results_are_the_same(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    """First files of runs that were killed in the middle; then of the finished runs."""
    count = f"init=range({COUNT})"
    assert make(tmp_path, count, FRAGILE_ENDING="kill").run() == 1
    sweep = make(tmp_path, count)
    assert {status["state"] for status in sweep.statuses().values()} == {schema.FAILED}
    (plan,) = sweep.output.glob(f"{schema.SWEEPS}/*/{schema.PLAN}")
    plan.write_text("{")
    for damages in (UNFINISHED, FINISHED):
        damaged = dict(zip(damages, sorted(runs(sweep.output).values(), key=init), strict=False))
        before = {name: len((run / schema.LOG).read_text()) for name, run in damaged.items()}
        for name, run in damaged.items():
            for file, change in damages[name][0].items():
                if change is None:
                    (run / file).unlink()
                else:
                    (run / file).write_bytes(change((run / file).read_bytes()) if callable(change) else change)
        assert sweep.run() == 0, sweep.printed
        for name, run in damaged.items():
            assert damages[name][1] in (run / schema.LOG).read_text()[before[name] :], name
        assert wrong(sweep, undisturbed, COUNT) == []


def test_two_identical_sweeps_at_once_share_the_work(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    sweeps = [make(tmp_path, "init=range(4)") for _ in range(2)]
    for sweep in sweeps:
        sweep.launch()
    for sweep in sweeps:
        assert sweep.wait() == 0, sweep.printed
        assert "failed" not in sweep.printed
    assert wrong(sweeps[0], undisturbed, 4) == []
    statuses = sweeps[0].statuses()
    assert [status["attempt"] for status in statuses.values()] == [1] * 4
    assert [(run / schema.LOG).read_text().count("epoch 0:") for run in statuses] == [1] * 4


CRASHES = {  # by how the model ends its process: the reason, and a part of the traceback
    "exit": ("SystemExit: no more", "ENDINGS[self.ending]()"),
    "os_exit": ("its process ended with exit code 0 before the run was finished", "exit code 0"),
    "native": ("its process crashed in native code (SIGSEGV)", "fragile.py"),
    "memory": ("MemoryError", "ENDINGS[self.ending]()"),
}


def test_a_crash_ends_only_its_own_run_which_is_retried(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    sweep = make(tmp_path, f"model.ending=none,{','.join(CRASHES)}", FRAGILE_MENDED=str(mended))
    assert sweep.run() == 1
    assert "Traceback" not in sweep.printed
    assert "tracebacks: python -m analysis failures out/copy_fixed\n" in sweep.printed
    assert sweep.printed.endswith(f": 1 finished, {len(CRASHES)} failed\n")
    for run, status in sweep.statuses().items():
        ending = pq.ParquetFile(run / schema.OPTIONS).read()["model.ending"][0].as_py()
        if ending == "none":
            assert status["state"] == schema.FINISHED
            continue
        reason, where = CRASHES[ending]
        assert status["state"] == schema.FAILED
        assert reason in status["error"]
        assert where in (run / schema.TRACEBACK).read_text()
        assert f"  model.ending={ending}: {status['error']} ({run.relative_to(tmp_path)})" in sweep.printed
        assert checkpoint_step(run) == EVALUATE_EVERY * EPOCH_STEPS
    mended.touch()
    assert sweep.run() == 0, sweep.printed
    assert sweep.printed.count("skipped ") == 1
    states = [read_checkpoint(run / schema.CHECKPOINT) for run in sweep.statuses()]
    for state in states[1:]:  # the ending determines nothing else
        assert all(torch.equal(state["model"][key], value) for key, value in states[0]["model"].items())
        assert state["best"] == states[0]["best"]
    assert sorted(status["attempt"] for status in sweep.statuses().values()) == [1, *[2] * len(CRASHES)]
    assert not list(sweep.output.rglob(schema.TRACEBACK))
    assert [what for what in wrong(sweep, undisturbed, 1) if "no such run undisturbed" not in what] == []


@pytest.mark.parametrize("launcher", ["joblib", "basic"])
def test_a_signal_ends_a_sweep_and_the_same_command_continues(
    make: Make, undisturbed: Path, tmp_path: Path, launcher: str
) -> None:
    """Of the two runs, basic runs one at a time, in the launching process, which a SIGKILL ends at once."""
    swept = ("init=range(2)", "hydra.launcher.n_jobs=2" if launcher == "joblib" else f"hydra/launcher={launcher}")
    at_once = 2 if launcher == "joblib" else 1
    slow = make(tmp_path, *swept, FRAGILE_SECONDS="0.2")
    endings = [
        ("Ctrl-C", lambda pid: os.killpg(pid, signal.SIGINT), 130),  # on a terminal: to its whole group
        ("SIGTERM", lambda pid: os.kill(pid, signal.SIGTERM), 130),
        ("SIGHUP", lambda pid: os.kill(pid, signal.SIGHUP), 130),
        ("SIGKILL", lambda pid: os.kill(pid, signal.SIGKILL), -signal.SIGKILL),
    ]
    for attempt, (name, end, code) in enumerate(endings, 1):
        process = slow.launch()
        slow.until(lambda: len(between_evaluations(slow, attempt)) == at_once, "runs between two evaluations")  # noqa: B023
        steps = {run: status["step"] for run, status in slow.statuses().items()}
        end(process.pid)
        assert slow.wait() == code, name
        slow.until(lambda: not slow.processes(), f"the end of all processes after {name}")
        for run, status in slow.statuses().items():
            stored = code == 130 or launcher == "joblib"
            assert status["state"] == (schema.INTERRUPTED if stored else schema.RUNNING), name
            assert checkpoint_step(run) >= steps[run] or not stored, name
        assert ("the same command continues" in slow.printed) == (code == 130)
    assert "Traceback" not in slow.terminal
    sweep = make(tmp_path, *swept)
    assert sweep.run() == 0, sweep.printed
    assert wrong(sweep, undisturbed, 2) == []
    attempts = sorted(status["attempt"] for status in sweep.statuses().values())
    assert attempts == [len(endings) + 1 if launcher == "joblib" else 1, len(endings) + 1]


def between_evaluations(sweep: Sweep, attempt: int) -> list[Path]:
    """The runs that are past their last checkpoint, which an evaluation wrote."""
    begun = {run: s for run, s in sweep.training().items() if s["attempt"] == attempt and s["elapsed"] > 0.5}
    return [run for run, status in begun.items() if status.get("step", 0) % (EVALUATE_EVERY * EPOCH_STEPS)]


def test_with_submitit_local_the_same_command_continues(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    swept = ("init=range(2)", "hydra/launcher=submitit_local")
    slow = make(tmp_path, *swept, FRAGILE_SECONDS="0.1")
    endings = [  # of one of the two runs, by its process and the launching process: exit code, and its state then
        ("run", lambda pid, _: os.kill(pid, signal.SIGKILL), 1, schema.FAILED),
        # The run's fork server is between them.
        ("watcher", lambda pid, _: os.kill(parent_of(parent_of(pid)), signal.SIGKILL), 1, schema.INTERRUPTED),
        ("Ctrl-C", lambda _, launcher: os.killpg(launcher, signal.SIGINT), 130, schema.INTERRUPTED),
        ("SIGTERM", lambda _, launcher: os.kill(launcher, signal.SIGTERM), 130, schema.FINISHED),  # it goes on
    ]
    for attempt, (name, end, code, state) in enumerate(endings, 1):
        process, count = slow.launch(), 2 if attempt == 1 else 1
        slow.until(lambda: len(between_evaluations(slow, attempt)) == count, "runs between two evaluations")  # noqa: B023
        run = between_evaluations(slow, attempt)[0]
        end(slow.statuses()[run]["pid"], process.pid)
        assert slow.wait() == code, name
        slow.until(lambda: not slow.processes(), f"the end of all processes after {name}")
        assert slow.statuses()[run]["state"] == state, name
    sweep = make(tmp_path, *swept)  # of its own terminal: submitit shows tracebacks on Ctrl-C
    assert sweep.run() == 0, sweep.printed
    assert sweep.printed.count("skipped  ") == 2
    assert wrong(sweep, undisturbed, 2) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to mount a file system: {getattr(error, 'stderr', error)!r}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> None:
    """Fill the disk."""
    with open(disk / "ballast", "ab", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


def test_a_full_or_readonly_disk_loses_nothing(make: Make, undisturbed: Path, small_disk: Path, tmp_path: Path) -> None:
    """The disk is full at the start, then fills up during the sweep, then is read-only."""
    output = small_disk / "out"
    swept = ("init=range(2)", "hydra.launcher.n_jobs=2", f"output_dir={output}")
    sweep, slow = make(tmp_path, *swept), make(tmp_path, *swept, FRAGILE_SECONDS="0.1")
    sweep.output = slow.output = output

    fill(small_disk)
    assert sweep.run() == 1
    assert_reported(sweep, output, "No space left on device")
    assert runs(output) == {}
    (small_disk / "ballast").unlink()

    slow.launch()
    slow.until(lambda: len(list(output.glob(f"*/*/{schema.CHECKPOINT}"))) == 2, "the first checkpoints")

    def ended() -> bool:
        fill(small_disk)
        return slow.ended() is not None

    slow.until(ended, "the end of a sweep on a full disk")
    assert slow.ended() == 1
    assert_reported(slow, output, "No space left on device")
    for run in runs(output).values():
        assert f"{run}" in slow.printed
        assert len(pq.ParquetFile(run / schema.METRICS).read()) > 0
        assert checkpoint_step(run) < EPOCHS * EPOCH_STEPS
    (small_disk / "ballast").unlink()
    assert sweep.run() == 0, sweep.printed
    assert wrong(sweep, undisturbed, 2) == []

    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    more = make(tmp_path, "init=range(3)", f"output_dir={output}")
    assert more.run() == 1
    assert_reported(more, output, "Read-only file system")
    assert wrong(sweep, undisturbed, 2) == []  # reported before the first step


def assert_reported(sweep: Sweep, folder: Path, reason: str) -> None:
    """The last launch named the folder and the reason in one line, without a traceback."""
    lines = sweep.printed.splitlines()
    assert [line for line in lines if str(folder) in line and reason in line], sweep.printed
    assert "Traceback" not in sweep.printed
