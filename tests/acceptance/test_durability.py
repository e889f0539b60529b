"""What befalls runs and their files: crashes, signals, full and read-only disks, damaged files, clocks that jump.

Each test compares with the same sweep, undisturbed. All train a user's own model that can be made to crash, or slow.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from atbptt.runs import schema
from tests.helpers.comparing import differences, runs
from tests.helpers.launched import RUN, Sweep

EPOCHS = 9
EVALUATE_EVERY = 3
EPOCH_STEPS = 60  # as in tests/conftest.py

Make = Callable[..., Sweep]


@pytest.fixture(scope="session")
def mine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a model, and the YAML file that names it."""
    folder = tmp_path_factory.mktemp("mine")
    shutil.copy(root / "tests" / "helpers" / "fragile.py", folder)
    (folder / "model").mkdir()
    (folder / "model" / "fragile.yaml").write_text(
        "name: fragile\n_target_: fragile.Fragile\nending: none\nhidden: 6\n"
    )
    return folder


@pytest.fixture(scope="session")
def make(mine: Path, tiny: tuple[str, ...]) -> Iterator[Make]:
    """Make(folder, *swept, **environment): a sweep whose processes are cleared away in the end, whatever happens."""
    made = []

    def sweep(folder: Path, *swept: str, **environment: str) -> Sweep:
        path = os.pathsep.join([*environment.pop("PYTHONPATH", "").split(os.pathsep), str(mine)]).strip(os.pathsep)
        trained = ["model=fragile", "optimizer=momentum", "lr=0.1", "truncation.K=5"]
        budget = [f"epochs={EPOCHS}", f"evaluate_every={EVALUATE_EVERY}"]
        arguments = ["--config-dir", str(mine), *tiny, *trained, *budget, *swept]
        made.append(Sweep(folder, *arguments, environment={"PYTHONPATH": path, **environment}))
        return made[-1]

    yield sweep
    for sweep_made in made:
        sweep_made.clear()


def truncated(name: str, share: float) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: int(len(content) * share)])

    return damage


def altered(name: str) -> Callable[[Path], object]:
    """One bit in the middle."""

    def damage(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 1
        (run / name).write_bytes(content)

    return damage


def overwritten(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def each(*damages: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        for part in damages:
            part(run)

    return damage


# What happens to a run, before it is finished or afterwards, and what its log tells of that.
LAST = "checkpoint.pt is damaged and left out"
BOTH = "no checkpoint can be read: the run begins anew"
RESTORED = "{} differs from the checkpoint and is restored from it"
UNFINISHED: dict[str, tuple[Callable[[Path], object], str]] = {
    "checkpoint cut in half": (truncated(schema.CHECKPOINT, 0.5), LAST),
    "checkpoint empty": (truncated(schema.CHECKPOINT, 0), LAST),
    "checkpoint garbage": (overwritten(schema.CHECKPOINT, "garbage\n" * 1000), LAST),
    "checkpoint altered": (altered(schema.CHECKPOINT), LAST),
    "checkpoint missing": (lambda run: (run / schema.CHECKPOINT).unlink(), "continues from"),
    "both checkpoints": (
        each(truncated(schema.CHECKPOINT, 0.9), truncated(schema.PREVIOUS_CHECKPOINT, 0)),
        BOTH,
    ),
    "metrics": (truncated(schema.METRICS, 0.5), RESTORED.format(schema.METRICS)),
    "gradients": (truncated(schema.GRADIENTS, 0), RESTORED.format(schema.GRADIENTS)),
    "positions": (truncated(schema.POSITIONS, 0.5), RESTORED.format(schema.POSITIONS)),
    "predictions": (truncated(schema.PREDICTIONS, 0.9), RESTORED.format(schema.PREDICTIONS)),
    "metrics missing": (lambda run: (run / schema.METRICS).unlink(), RESTORED.format(schema.METRICS)),
    "metrics and checkpoint": (
        each(truncated(schema.METRICS, 0.9), truncated(schema.CHECKPOINT, 0.9)),
        RESTORED.format(schema.METRICS),
    ),
    "status": (truncated(schema.STATUS, 0.5), "continues from"),
    "status garbage": (overwritten(schema.STATUS, "\x00[]"), "continues from"),
    "status of nonsense": (
        overwritten(schema.STATUS, '{"state": "finished", "epoch": "all", "attempt": null, "error": 3, "epochs": []}'),
        "continues from",
    ),
    "all that is written anew": (
        each(
            *(truncated(name, 0.5) for name in (schema.OPTIONS, schema.CONFIG, schema.ENVIRONMENT)),
            overwritten(f".{schema.METRICS}.elsewhere.1.tmp", "half"),
            overwritten(schema.LOCK, "12345\n"),
        ),
        "continues from",
    ),
}
FINISHED: dict[str, tuple[Callable[[Path], object], str]] = {
    "metrics": (truncated(schema.METRICS, 0.5), RESTORED.format(schema.METRICS)),
    "gradients": (truncated(schema.GRADIENTS, 0.9), RESTORED.format(schema.GRADIENTS)),
    "positions missing": (lambda run: (run / schema.POSITIONS).unlink(), RESTORED.format(schema.POSITIONS)),
    "predictions altered": (altered(schema.PREDICTIONS), RESTORED.format(schema.PREDICTIONS)),
    "metrics altered": (altered(schema.METRICS), RESTORED.format(schema.METRICS)),
    "metrics and checkpoint": (
        each(truncated(schema.METRICS, 0), truncated(schema.CHECKPOINT, 0.5)),
        RESTORED.format(schema.METRICS),
    ),
    "everything": (
        each(*(truncated(name, 0.5) for name in (schema.METRICS, schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT))),
        BOTH,
    ),
    "status": (truncated(schema.STATUS, 0), "continues from"),
}
COUNT = len(UNFINISHED)


@pytest.fixture(scope="session")
def undisturbed(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a sweep to which nothing happens; the processes of pytest-xdist share one."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    sweep = make(folder, f"init=range({COUNT})")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not sweep.output.exists():
            assert sweep.run() == 0, sweep.terminal
    return sweep.output


def wrong(sweep: Sweep, undisturbed: Path, count: int) -> list[str]:
    """What is not as in the first `count` runs of the undisturbed sweep, or should not be there at all."""
    only = [name for name, path in runs(undisturbed).items() if init(path) < count]
    left = [f"left behind: {path}" for path in sweep.output.rglob(".*.tmp")]
    shown = ["a traceback was shown"] if "Traceback" in sweep.terminal else []
    return [*left, *shown, *differences(sweep.output, undisturbed, only)]


def init(run: Path) -> int:
    """The number of a run's initial parameters."""
    number: int = pq.ParquetFile(run / schema.OPTIONS).read()["init"][0].as_py()
    return number


def checkpoint_step(run: Path) -> int:
    """The training step at which a run would continue."""
    state = torch.load(run / schema.CHECKPOINT, map_location="cpu", weights_only=False)
    return int(state["epochs_done"] * EPOCH_STEPS + state["position"])


def what_is_logged(sweep: Sweep, damaged: dict[str, Path]) -> dict[str, str]:
    """Launch a sweep; what the log of each run tells of it."""
    before = {name: len((run / schema.LOG).read_text()) for name, run in damaged.items()}
    assert sweep.run() == 0, sweep.printed
    return {name: (run / schema.LOG).read_text()[before[name] :] for name, run in damaged.items()}


def test_damaged_files_are_repaired_or_left_out_and_the_results_are_the_same(
    make: Make, undisturbed: Path, tmp_path: Path
) -> None:
    """First of runs that were killed in the middle, one damage each; then of the same runs when they are finished."""
    count = f"init=range({COUNT})"
    assert make(tmp_path, count, FRAGILE_ENDING="kill").run() == 1
    sweep = make(tmp_path, count)
    assert {status["state"] for status in sweep.statuses().values()} == {schema.FAILED}
    (plan,) = sweep.output.glob(f"{schema.SWEEPS}/*/{schema.PLAN}")
    plan.write_text("{")
    for damages in (UNFINISHED, FINISHED):
        damaged = dict(zip(damages, sorted(runs(sweep.output).values(), key=init), strict=False))
        for name, run in damaged.items():
            damages[name][0](run)
        logged = what_is_logged(sweep, damaged)
        for name, (_, expected) in damages.items():
            assert expected in logged[name], f"{name}: {logged[name]}"
        assert wrong(sweep, undisturbed, COUNT) == []


JUMPS = """
import random
import time

clock, jumps = time.time, random.SystemRandom()  # without a state that forks would share


def jumping():
    return clock() + jumps.choice((-7200.0, 10800.0))


time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
"""


def test_a_clock_that_jumps_changes_nothing(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMPS)
    sweep = make(tmp_path, "init=range(4)", PYTHONPATH=str(tmp_path / "clock"))
    assert sweep.run() == 0, sweep.printed
    assert wrong(sweep, undisturbed, 4) == []
    started = [status["started"] for status in sweep.statuses().values()]
    assert all(abs(time.time() - moment) > 3600 for moment in started)  # it did jump
    command = [sys.executable, "-m", "analysis", "status", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=sweep.environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 finished" in done.stdout


def test_two_identical_sweeps_at_once_share_the_work(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    sweeps = [make(tmp_path, "init=range(4)") for _ in range(2)]
    for sweep in sweeps:
        sweep.launch()
    for sweep in sweeps:
        assert sweep.wait() == 0, sweep.printed
        assert "failed" not in sweep.printed
    assert wrong(sweeps[0], undisturbed, 4) == []
    statuses = sweeps[0].statuses().values()
    assert [status["attempt"] for status in statuses] == [1] * 4
    assert [(run / schema.LOG).read_text().count("epoch 0:") for run in sweeps[0].statuses()] == [1] * 4


CRASHES = {  # by how the model ends its process: the reason, what the traceback tells
    "exit": ("SystemExit: no more", "ENDINGS[self.ending]()"),
    "os_exit": ("its process ended with exit code 0 before the run was finished", "exit code 0"),
    "kill": ("its process was killed (SIGKILL)", "SIGKILL"),
    "abort": ("its process crashed in native code (SIGABRT)", "fragile.py"),
    "native": ("its process crashed in native code (SIGSEGV)", "fragile.py"),
    "memory": ("MemoryError", "ENDINGS[self.ending]()"),
}


def test_a_run_that_crashes_ends_no_other_and_is_retried_the_next_time(
    make: Make, undisturbed: Path, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    swept = f"model.ending=none,{','.join(CRASHES)},whole"
    sweep = make(tmp_path, swept, FRAGILE_MENDED=str(mended))
    assert sweep.run() == 1
    assert "Traceback" not in sweep.printed
    found = {}
    for run, status in sweep.statuses().items():
        (options,) = pq.ParquetFile(run / schema.OPTIONS).read().to_pylist()
        found[options["model.ending"]] = run, status
    for ending, (reason, where) in CRASHES.items():
        run, status = found.pop(ending)
        assert status["state"] == schema.FAILED, ending
        assert reason in status["error"]
        assert where in (run / schema.TRACEBACK).read_text()
        assert f"  model.ending={ending}: {status['error']} ({run.relative_to(tmp_path)})" in sweep.printed
        assert checkpoint_step(run) == EVALUATE_EVERY * EPOCH_STEPS
    assert {ending: status["state"] for ending, (_, status) in found.items()} == {
        "none": schema.FINISHED,
        "whole": schema.FINISHED,
    }
    mended.touch()
    assert sweep.run() == 0, sweep.printed
    assert sweep.printed.count("skipped ") == 2
    states = [torch.load(run / schema.CHECKPOINT, weights_only=False)["model"] for run in sweep.statuses()]
    for state in states[1:]:  # how it was to end decides nothing else
        assert all(torch.equal(state[key], value) for key, value in states[0].items())
    assert sorted(status["attempt"] for status in sweep.statuses().values()) == [1, 1, *[2] * len(CRASHES)]
    assert not list(sweep.output.rglob(schema.TRACEBACK))
    assert [what for what in wrong(sweep, undisturbed, 1) if "no such run undisturbed" not in what] == []


@pytest.mark.slow
def test_whatever_ends_a_sweep_leaves_no_process_and_the_same_command_continues(
    make: Make, undisturbed: Path, tmp_path: Path
) -> None:
    swept = ("init=range(2)", "hydra.launcher.n_jobs=2")
    slow = make(tmp_path, *swept, FRAGILE_SECONDS="0.1")
    endings = [
        ("Ctrl-C", lambda pid: os.killpg(pid, signal.SIGINT), 130),  # on a terminal: to its whole group
        ("SIGTERM", lambda pid: os.kill(pid, signal.SIGTERM), 130),
        ("SIGHUP", lambda pid: os.kill(pid, signal.SIGHUP), 130),
        ("SIGKILL", lambda pid: os.kill(pid, signal.SIGKILL), -signal.SIGKILL),
    ]
    for attempt, (name, end, code) in enumerate(endings, 1):
        process = slow.launch()
        slow.until(lambda: between_evaluations(slow, attempt), "two runs between two evaluations")  # noqa: B023
        steps = {run: status["step"] for run, status in slow.statuses().items()}
        end(process.pid)
        assert slow.wait() == code, name
        slow.until(lambda: not slow.processes(), f"the end of all processes after {name}")
        for run, status in slow.statuses().items():
            assert status["state"] == schema.INTERRUPTED, name
            assert checkpoint_step(run) >= steps[run], name
        assert ("the same command continues" in slow.printed) == (code == 130)
    sweep = make(tmp_path, *swept)
    assert sweep.run() == 0, sweep.printed
    assert wrong(sweep, undisturbed, 2) == []
    assert [status["attempt"] for status in sweep.statuses().values()] == [len(endings) + 1] * 2


def between_evaluations(sweep: Sweep, attempt: int) -> bool:
    """Whether two runs work, each so far from an evaluation that the last checkpoint is not where it is."""
    working = sweep.processes().get(RUN, [])
    found = [
        status
        for status in sweep.statuses().values()
        if status["pid"] in working and status["attempt"] == attempt and status["elapsed"] > 0.5
    ]
    return len(found) == 2 and all(status.get("step", 0) % (EVALUATE_EVERY * EPOCH_STEPS) for status in found)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to mount a file system: {getattr(error, 'stderr', error)!r}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> None:
    """Leave no room for another file."""
    with open(disk / "ballast", "ab", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


def test_a_full_or_read_only_disk_is_reported_and_nothing_is_lost(
    make: Make, undisturbed: Path, small_disk: Path, tmp_path: Path
) -> None:
    """Full when the sweep begins; filled while it runs; read-only."""
    output = small_disk / "out"
    swept = ("init=range(2)", "hydra.launcher.n_jobs=2", f"output_dir={output}")
    sweep, slow = make(tmp_path, *swept), make(tmp_path, *swept, FRAGILE_SECONDS="0.03")
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

    slow.until(ended, "the end of a sweep that cannot store anything")
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
    assert wrong(sweep, undisturbed, 2) == []  # it was reported before the first step


def assert_reported(sweep: Sweep, folder: Path, reason: str) -> None:
    """That the last launch has named the folder and the system's reason in one line, and shown no traceback."""
    lines = sweep.printed.splitlines()
    assert [line for line in lines if str(folder) in line and reason in line], sweep.printed
    assert "Traceback" not in sweep.printed
