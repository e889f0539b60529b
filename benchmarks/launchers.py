"""Processor time of a sweep of short runs by launcher, of all processes that a launch starts."""

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.machine import ROOT
from benchmarks.report import Comparison, Goal, Row
from benchmarks.timing import Measured

RUNS = 8
EPOCHS = 4
SUBREAPER = 36  # of prctl.h
# hydra-joblib-launcher as it is, under another name than the one that stands for ours.
PLUG_IN = """
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

class PlugIn(JoblibLauncher):
    pass
"""
LAUNCHERS = {
    "one after another in the launching process (basic)": ("hydra/launcher=basic",),
    "hydra-joblib-launcher's worker processes": ("hydra/launcher=plug_in", "hydra.launcher.n_jobs=2"),
}


def rows(device: torch.device, speed: float) -> Iterator[Row]:  # noqa: ARG001  (as the other parts; runs on the CPU)
    """A row for each launcher that `joblib` is compared with."""
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as name:
        folder = Path(name)
        (folder / "plug_in.py").write_text(PLUG_IN)
        options = folder / "conf" / "hydra" / "launcher" / "plug_in.yaml"
        options.parent.mkdir(parents=True)
        options.write_text("defaults: [joblib]\n_target_: plug_in.PlugIn\n")
        ours = processor_seconds(folder, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
        for what, overrides in LAUNCHERS.items():
            its = processor_seconds(folder, *overrides)
            goal = Goal("at most", 1.3)
            against = Comparison(what, its, "ours / its", ours="joblib", goal=goal)
            yield Row(f"{RUNS} short runs", f"L1 H50 B64 K10, {EPOCHS} epochs", ours, "of processor", against)


def processor_seconds(folder: Path, *overrides: str) -> Measured:
    """Processor time of a sweep and of all processes it leaves to themselves, too (RuntimeError if it fails)."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)  # orphans, as a fork server's runs, become children of this process
    before = _of_children()
    sized = (f"init=range({RUNS})", f"epochs={EPOCHS}", "device.type=cpu", "device.threads=1")
    command = [sys.executable, str(ROOT / "launch.py"), "-m", f"--config-dir={folder}/conf", *sized, *overrides]
    with tempfile.TemporaryDirectory(dir=folder) as output:
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        command.append(f"output_dir={output}")
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return Measured((_of_children() - before,))


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
