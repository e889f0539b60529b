"""A sweep of small runs in parallel, compared with the same runs one after another."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

import torch

from atbptt.system import available_cores
from benchmarks.machine import ROOT
from benchmarks.report import Comparison, Goal, Row
from benchmarks.timing import in_turn

CORES = 2
RUNS = 8
EPOCHS = 30  # as conf/config.yaml has
REPEATS = 1
# One command each: starting Python for every run would slow the runs one after another.
SIDE_BY_SIDE = ("device.threads=1", f"hydra.launcher.n_jobs={CORES}")
ONE_AFTER_ANOTHER = (f"device.threads={CORES}", "hydra/launcher=basic")


class SkippedError(Exception):
    """This machine cannot run a part."""


def rows(device: torch.device, speed: float) -> Iterator[Row]:  # noqa: ARG001  (as the other parts; runs on the CPU)
    """The one row.

    Raises:
        SkippedError: fewer than two cores.
    """
    if available_cores() < CORES:
        raise SkippedError(f"needs {CORES} cores; there are {available_cores()}")
    calls = [partial(launch, way) for way in (SIDE_BY_SIDE, ONE_AFTER_ANOTHER)]
    side_by_side, one_after_another = in_turn(calls, REPEATS)
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
    """Launch the runs by the command line, in a temporary folder (RuntimeError if they fail)."""
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as folder:
        overrides = [f"init=range({RUNS})", f"epochs={EPOCHS}", "device.type=cpu", f"output_dir={folder}", *way]
        command = [sys.executable, str(ROOT / "launch.py"), "-m", *overrides]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # of make
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
