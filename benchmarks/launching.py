"""How soon launch.py answers, the cost of a separate process for a run, how fast finished runs are skipped."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from atbptt.runs import Origin, schema
from atbptt.sweeps import RunProcess, compose, plan
from atbptt.training import run
from benchmarks.composing import settings_of
from benchmarks.machine import ROOT
from benchmarks.report import Comparison, Goal, Row
from benchmarks.timing import Measured, in_turn

REPEATS = 20
STARTS = 9
FINISHED = 1000
# A run with hundredths of a second of work.
SMALL = (
    *("dataset.train_steps=60", "dataset.valid_steps=30", "dataset.test_steps=30", "dataset.batch_size=4"),
    *("dataset.min_length=2", "dataset.max_length=2", "model.hidden=6", "epochs=1", "device=cpu"),
    *("probe.window=12", "probe.tau=8", "probe.burn_in=4", "probe.positions=2"),
)


def rows(device: torch.device, speed: float) -> Iterator[Row]:  # noqa: ARG001  (as the other parts; runs on the CPU)
    """The rows."""
    yield _answering("--help")
    yield _answering("a wrong option", "lrr=1")
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as folder:
        yield _own_process(Path(folder))
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as folder:
        yield _skipping(Path(folder))


def _answering(what: str, argument: str | None = None) -> Row:
    """A command that needs no torch, from start to exit, compared with importing torch alone."""
    commands = [sys.executable, "launch.py", argument or what], [sys.executable, "-c", "import torch"]
    calls = [partial(subprocess.run, command, cwd=ROOT, capture_output=True, check=False) for command in commands]
    ours, its = in_turn(calls, STARTS)
    return Row(
        f"launch.py answers {what}",
        f"{STARTS} starts",
        ours,
        "a start",
        Comparison("import torch", its, "ours / its", ours="answer"),
        limit=Goal("at most", 1.5),
    )


def _own_process(folder: Path) -> Row:
    """The same small runs, each in its own process and in this one."""
    origin = Origin()
    apart, here = (
        iter([settings_of(*SMALL, f"init={number}", f"output_dir={folder}/{name}") for number in range(REPEATS + 1)])
        for name in ("apart", "here")
    )
    calls = [lambda: RunProcess(next(apart), origin).wait(), lambda: run(next(here), origin)]
    in_turn(calls, 1)  # the first process waits for the imports, once a sweep
    ours, its = in_turn(calls, REPEATS)
    added = Measured(tuple(max(own - same, 0.0) for own, same in zip(ours.seconds, its.seconds, strict=True)))
    return Row(
        "a process of its own for a run, what it adds",
        f"{REPEATS} small runs",
        added,
        "a run",
        Comparison("the run itself, here", its, "ours / its", ours="added"),
        limit=Goal("at most", 0.5),
    )


def _skipping(folder: Path) -> Row:
    """A command whose runs are all finished, from start to exit."""
    arguments = ["-m", *SMALL, f"output_dir={folder}", f"init=range({FINISHED})"]
    first = run(settings_of(*SMALL, f"output_dir={folder}")).path
    composed = compose(["-m", *SMALL, f"output_dir={folder}", f"init=range(1,{FINISHED})"], ROOT / "conf")
    assert composed is not None
    planned = plan(composed)
    status = json.loads((first / schema.STATUS).read_text())
    for job in planned.jobs:
        shutil.copytree(first, job.directory.path)
        (job.directory.path / schema.STATUS).write_text(
            json.dumps({**status, "experiment_id": job.directory.experiment_id})
        )

    def skip() -> None:
        done = subprocess.run([sys.executable, str(ROOT / "launch.py"), *arguments], capture_output=True, text=True)
        if done.returncode != 0 or f"skipped      {FINISHED} runs" not in done.stdout:
            raise RuntimeError(f"the runs were not skipped:\n{done.stdout}{done.stderr}")

    (taken,) = in_turn([skip], 3)
    return Row("finding finished runs finished", f"{FINISHED} runs", taken, "in all", limit=Goal("at most", 20.0))
