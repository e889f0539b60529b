"""How soon launch.py answers, what a process of its own costs a run, how soon finished runs are found finished."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from atbptt.runs import Origin, schema
from atbptt.sweeps import RunProcess, compose, plan
from atbptt.training import run
from benchmarks.composing import settings_of
from benchmarks.machine import ROOT
from benchmarks.report import Comparison, Goal, Row
from benchmarks.timing import Measured, seconds_of

CPU = torch.device("cpu")
REPEATS = 20
STARTS = 9
FINISHED = 1000
# A run of some hundredths of a second: what it takes besides its work is most of it.
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
    """What needs no torch, from start to exit, in turn with importing torch alone."""
    ours: list[float] = []
    its: list[float] = []
    for _ in range(STARTS):
        for taken, command in ((ours, ["launch.py", argument or what]), (its, ["-c", "import torch"])):
            call = [sys.executable, *command]
            taken.append(
                seconds_of(lambda call=call: subprocess.run(call, cwd=ROOT, capture_output=True, check=False), CPU)  # type: ignore[misc]
            )
    return Row(
        f"launch.py answers {what}",
        f"{STARTS} starts",
        Measured(tuple(ours)),
        "a start",
        Comparison("import torch", Measured(tuple(its)), "ours / its", ours="answer"),
        limit=Goal("at most", 1.5),
    )


def _own_process(folder: Path) -> Row:
    """The same small runs in turn: each in a process of its own, and in this one."""
    origin = Origin()
    ours: list[float] = []
    its: list[float] = []
    for number in range(REPEATS + 1):
        apart = settings_of(*SMALL, f"init={number}", f"output_dir={folder}/apart")
        here = settings_of(*SMALL, f"init={number}", f"output_dir={folder}/here")
        taken = seconds_of(lambda apart=apart: RunProcess(apart, origin).wait(), CPU)  # type: ignore[misc]
        if number:  # the first waits for the imports, once a sweep
            ours.append(taken)
        taken = seconds_of(lambda here=here: run(here, origin), CPU)  # type: ignore[misc]
        if number:
            its.append(taken)
    added = Measured(tuple(max(apart - here, 0.0) for apart, here in zip(ours, its, strict=True)))
    return Row(
        "a process of its own for a run, what it adds",
        f"{REPEATS} small runs",
        added,
        "a run",
        Comparison("the run itself, here", Measured(tuple(its)), "ours / its", ours="added"),
        limit=Goal("at most", 0.5),
    )


def _skipping(folder: Path) -> Row:
    """The command that finds all its runs finished, from start to exit."""
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

    taken = Measured(tuple(seconds_of(skip, CPU) for _ in range(3)))
    return Row("finding finished runs finished", f"{FINISHED} runs", taken, "in all", limit=Goal("at most", 20.0))
