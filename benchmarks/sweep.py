"""A sweep of small runs side by side against the same runs one after another."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import torch

from atbptt.system import available_cores
from benchmarks.machine import ROOT
from benchmarks.report import Comparison, Goal, Row
from benchmarks.timing import Measured, seconds_of

CORES = 2
RUNS = 8
EPOCHS = 30  # as conf/config.yaml has
REPEATS = 1
# Each way is one command: starting Python anew for every run would cost the runs one after another more.
SIDE_BY_SIDE = ("device.threads=1", f"hydra.launcher.n_jobs={CORES}")
ONE_AFTER_ANOTHER = (f"device.threads={CORES}", "hydra/launcher=basic")


class SkippedError(Exception):
    """A part that this machine cannot run."""


def rows(device: torch.device, speed: float) -> Iterator[Row]:  # noqa: ARG001  (as the other parts; runs on the CPU)
    """The one row.

    Raises:
        SkippedError: fewer than two cores.
    """
    if available_cores() < CORES:
        raise SkippedError(f"a sweep on {CORES} cores needs as many, and there are {available_cores()}")
    seconds: dict[tuple[str, ...], list[float]] = {SIDE_BY_SIDE: [], ONE_AFTER_ANOTHER: []}
    for _ in range(REPEATS):
        for way, taken in seconds.items():
            taken.append(seconds_of(functools.partial(launch, way), torch.device("cpu")))
    side_by_side, one_after_another = (Measured(tuple(taken)) for taken in seconds.values())
    yield Row(
        f"{RUNS} copy runs, sweep on {CORES} cores",
        f"L1 H50 B64 K10, {EPOCHS} epochs",
        side_by_side,
        "all runs",
        Comparison(
            f"one by one, {CORES} threads",
            one_after_another,
            "ours / its",
            ours="sweep",
            goal=Goal("at most", 0.6),
        ),
    )


def launch(way: tuple[str, ...]) -> None:
    """The runs by the command line, into a folder that is thrown away.

    Raises:
        RuntimeError: they failed; with what the command said.
    """
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as folder:
        overrides = [f"init=range({RUNS})", f"epochs={EPOCHS}", "device.type=cpu", f"output_dir={folder}", *way]
        command = [sys.executable, str(ROOT / "launch.py"), "-m", *overrides]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # of make
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
