"""Commands that are refused, ended or cannot print leave nothing behind, and say so in a line."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atbptt.runs import schema
from atbptt.sweeps import planning
from tests.conftest import ROOT, TINY
from tests.helpers.projects import Project
from tests.helpers.spoiling import copied, folder, replaced
from tests.hostile.conftest import Command

LAUNCHER = """
from hydra.plugins.launcher import Launcher

class Refusing(Launcher):
    def __init__(self):
        raise RuntimeError("no room")

    def setup(self, **options): pass

    def launch(self, *jobs): pass
"""


REFUSING = ("--config-dir=mine", "hydra/launcher=refusing")
SEARCH = ("-m", "hydra/sweeper=optuna", "lr=interval(0.1,1)", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (REFUSING, "no room"),
        (("hydra/launcher=slurm",), "needs Slurm's sbatch"),
        ((REFUSING[0], *SEARCH, REFUSING[1]), "no room"),
        ((*SEARCH, "hydra/launcher=slurm"), "needs Slurm's sbatch"),
        ((*SEARCH, "hydra/launcher=submitit_local"), "submitit_local, for 2 runs) starts all runs at once"),
    ],
)
def test_a_refused_sweep_leaves_no_folder(
    arguments: tuple[str, ...], words: str, here: Path, launched: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(planning, "available_cores", lambda: 1)
    (here / "refusing.py").write_text(LAUNCHER)
    folder = here / "mine" / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "refusing.yaml").write_text("_target_: refusing.Refusing\n")
    answer = launched(*arguments, *TINY, "output_dir=out/of/runs")
    answer.check(1, words)
    assert not (here / "out").exists()
    assert words == "no room" or answer.out == ""


@pytest.mark.parametrize("arguments", [(), SEARCH])
def test_a_preview_needs_no_cluster_and_leaves_nothing(
    arguments: tuple[str, ...], here: Path, launched: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    launched(*arguments, *TINY, "hydra/launcher=slurm", "output_dir=out", "preview=true").check(0, " new")
    assert not (here / "out").exists()


def test_what_a_killed_command_has_left_goes_with_the_next(made: Path, here: Path, analysed: Command) -> None:
    copied(made, here / "outputs")
    folder = here / "outputs" / "demo"
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()  # its number belongs to nobody now
    gone, lives = (f".report.html.{socket.gethostname()}.{pid}.tmp" for pid in (process.pid, os.getppid()))
    for name in (gone, lives):
        (folder / name).touch()
    analysed("report", "outputs/demo").check(0)
    assert {path.name for path in folder.glob(".*")} == {lives}


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.8, 1.5])
def test_ctrl_c_ends_the_analysis_without_a_traceback(made: Path, here: Path, after_s: float) -> None:
    copied(made, here / "outputs")
    process = subprocess.Popen(
        [sys.executable, "-m", "analysis", "status", str(here / "outputs"), "--watch"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # While a module is imported, Python may swallow it, and says so.
    err = re.sub(r"Exception ignored in: .*\nTraceback .*\n(  .*\n)*KeyboardInterrupt: ?\n", "", err)
    # By the signal itself before the command has begun to read, as 130 in a shell.
    assert (process.returncode, err) in ((130, "interrupted\n"), (-signal.SIGINT, ""), (0, ""))


@pytest.mark.parametrize(
    "typed",
    [
        "launch.py",
        *("-m atbptt table", "-m atbptt fetch", "-m atbptt.datasets fetch", "-m analysis", "-m atbptt.analysis"),
        *("-m benchmarks", "-m benchmarks.comparison", "-m benchmarks.readings"),
    ],
)
def test_ctrl_c_ends_the_imports_of_each_entry_point_in_silence(typed: str, here: Path) -> None:
    for name in ("argparse", "torch", "numpy", "pandas"):  # whichever comes first
        (here / f"{name}.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, *typed.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(here)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", -signal.SIGINT)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_behind_stdout_does_not_change_how_a_sweep_ends(here: Path) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), "-m", *TINY, "init=0,1", "output_dir=out"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=here, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert len([*here.glob("out/copy_fixed/*/status.json")]) == 2
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "status", str(here / "out")],
        cwd=ROOT,
        stdout=open("/dev/full", "w"),  # noqa: SIM115
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "error: OSError: [Errno 28] No space left on device\n")


MINE = """
import pathlib

import torch


class Moving(torch.optim.SGD):
    def step(self, closure=None):
        for log in pathlib.Path("out/copy_fixed").glob("*/log.txt"):  # it trains
            log.parent.rename("moved")
        return super().step(closure)
"""


HOLDING_ONE = ("optimizer._target_=parts.holding_one", "~optimizer.weight_decay")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ([str(ROOT / "launch.py"), *TINY, *HOLDING_ONE, "preview=true"], 0),
        ([str(ROOT / "launch.py"), "lr=-1"], 1),
        (["-m", "analysis", "table", "outputs"], 0),
        (["-m", "analysis", "table", "outputs", "--format=csv"], 0),
        (["-m", "analysis", "status", "outputs"], 0),
        (["-m", "analysis", "status", "nowhere"], 1),
    ],
)
def test_a_full_disk_behind_stderr_changes_no_exit_code(
    typed: list[str], code: int, made: Path, here: Path, users: Project
) -> None:
    """Where there is a warning, or an error."""
    replaced(schema.STATUS, folder)(run := copied(made, here / "outputs"))
    replaced(schema.METRICS, folder)(run)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(users.folder)])}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *typed], cwd=here, env=environment, stdout=subprocess.DEVNULL, stderr=full, timeout=300
        )
    assert done.returncode == code


@pytest.mark.parametrize("launcher", ["joblib", "basic"])
def test_a_run_whose_folder_is_moved_away_fails_and_does_not_come_back(
    launcher: str, here: Path, launched: Command
) -> None:
    (here / "mine.py").write_text(MINE)
    given = ("output_dir=out", f"hydra/launcher={launcher}", "optimizer._target_=mine.Moving")
    answer = launched(*TINY, *given)
    answer.check(1, "has been deleted or moved", "1 failed")
    assert "tracebacks" not in answer.out
    assert [*here.glob("out/copy_fixed/*")] == []
