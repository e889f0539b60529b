"""A sweep of short runs by launcher: processor time of all its processes, and time until a run begins."""

import ctypes
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from atbptt.runs import schema
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
if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher"):
    LAUNCHERS["ray"] = ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")


class Launched(NamedTuple):
    """A sweep: processor seconds of all its processes, and seconds until its first run has begun."""

    processor: Measured
    start: Measured


def rows(device: torch.device, speed: float) -> Iterator[Row]:  # noqa: ARG001  (as the other parts; runs on the CPU)
    """A row for each launcher that `joblib` is compared with."""
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as name:
        folder = Path(name)
        (folder / "plug_in.py").write_text(PLUG_IN)
        options = folder / "conf" / "hydra" / "launcher" / "plug_in.yaml"
        options.parent.mkdir(parents=True)
        options.write_text("defaults: [joblib]\n_target_: plug_in.PlugIn\n")
        ours = launched(folder, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
        size = f"L1 H50 B64 K10, {EPOCHS} epochs"
        for what, overrides in LAUNCHERS.items():
            its = launched(folder, *overrides)
            against = Comparison(what, its.processor, "ours / its", ours="joblib", goal=Goal("at most", 1.3))
            yield Row(f"{RUNS} short runs", size, ours.processor, "of processor", against)
            against = Comparison(what, its.start, "ours / its", ours="joblib")
            yield Row(f"{RUNS} short runs, until the first has begun", size, ours.start, "a sweep", against)


def launched(folder: Path, *overrides: str) -> Launched:
    """Launch a sweep, and wait also for processes it leaves to themselves (RuntimeError if it fails)."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)  # orphans, as a fork server's runs, become children of this process
    before = _of_children()
    sized = (f"init=range({RUNS})", f"epochs={EPOCHS}", "device.type=cpu", "device.threads=1")
    command = [sys.executable, str(ROOT / "launch.py"), "-m", f"--config-dir={folder}/conf", *sized, *overrides]
    with tempfile.TemporaryDirectory(dir=folder) as output:
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        command.append(f"output_dir={output}")
        began = time.time()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        statuses = Path(output).glob(f"*/*/{schema.STATUS}")
        start = min(json.loads(status.read_text())["started"] for status in statuses) - began
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return Launched(Measured((_of_children() - before,)), Measured((start,)))


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
