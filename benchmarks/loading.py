"""How long it takes to read the results of a large sweep, from run directories and from a compacted folder."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atbptt.runs import schema, tables
from atbptt.training import run
from benchmarks.composing import settings_of
from benchmarks.launching import SMALL
from benchmarks.machine import ROOT
from benchmarks.report import Comparison, Goal, Row
from benchmarks.timing import Measured

RUNS, ROWS = 10_000, 500
LRS = tuple(float(2**power) for power in range(10))
REPEATS = 3
MANY = 7  # of what is short
CLOCKS = ("step", "epoch", "adaptive_epoch", "updates", "train_seconds", "compute_seconds")
MEMORY = 1e9  # bytes, of the process that loads

# What a process of its own does, imports apart, and the rows that it must have read; so that the memory is that of
# loading alone. The files are in the page cache, since they were just written.
CALL = """
import json, sys, time
import pandas, pyarrow.parquet
from pathlib import Path
import analysis
from analysis.loading import compact
began = time.perf_counter()
found = {call}
taken = time.perf_counter() - began
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(json.dumps([taken, int(peak[0].split()[1]) * 1024, {count}]))
"""


def rows(device: torch.device, speed: float) -> Iterator[Row]:  # noqa: ARG001  (as the other parts; runs on the CPU)
    """The four rows."""
    size = f"{RUNS:,} runs of {ROWS} rows"
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as name:
        folder = Path(name)
        make_runs(folder / "sweep")
        load, rows_ = f"analysis.load({str(folder / 'sweep')!r})", "len(found)"
        some = f"analysis.load({str(folder / 'sweep')!r}, 'valid_ppl', {{'lr': 1.0}})"
        compacted = folder / "compacted"
        compact = f"compact(analysis.Results({str(folder / 'sweep')!r}), Path({str(compacted)!r}))"
        loaded = _measured(load, rows_, RUNS * ROWS)
        assert loaded.memory_bytes is not None
        kept = "met" if loaded.memory_bytes <= MEMORY else "missed"
        what = f"loading results (memory of the process: at most {MEMORY / 1e6:.0f} MB: {kept})"
        yield Row(what, size, loaded, "in all", limit=Goal("at most", 5.0))
        yield Row("loading one metric of the runs with one lr", size, _measured(some, rows_, repeats=MANY), "in all")
        yield Row("compacting results", size, _measured(compact, "len(found)"), "in all")
        after = _measured(f"analysis.load({str(compacted)!r})", rows_, RUNS * ROWS, repeats=MANY)
        metrics, options = (
            f"pandas.read_parquet({str(compacted / file)!r})" for file in (schema.METRICS, schema.OPTIONS)
        )
        plain = _measured(f"{metrics}.merge({options}, on={schema.ID!r})", rows_, RUNS * ROWS)
        against = Comparison("pandas: read and merge", plain, "its / ours", goal=Goal("at least", 2))
        yield Row("loading results, compacted", size, after, "in all", against)


def make_runs(folder: Path) -> None:
    """As many run directories as `RUNS`, with the files that two small runs of both policies wrote.

    They differ in lr, init and values; their metrics are repeated, as if there had been more evaluations.
    """
    random = np.random.default_rng(0)
    made = [_files(policy) for policy in ("fixed", "adaptive")]
    for number in range(RUNS):
        options, metrics = made[number % len(made)]
        experiment_id = f"{number:012x}"
        directory = folder / experiment_id
        directory.mkdir(parents=True)
        row = {**options, "experiment_id": experiment_id, "lr": LRS[number // 2 % len(LRS)]}
        row["init"] = number // (2 * len(LRS))
        (directory / schema.OPTIONS).write_bytes(tables.serialised_options(row))
        values = metrics["value"].to_numpy() * random.lognormal(sigma=0.1, size=ROWS)
        own = {schema.METRICS_SCHEMA.names[0]: pa.array([experiment_id] * ROWS), "value": pa.array(values)}
        table = pa.table([own.get(name, metrics[name]) for name in metrics.schema.names], schema=metrics.schema)
        (directory / schema.METRICS).write_bytes(tables.serialised(table))
        status = {"experiment_id": experiment_id, "state": schema.FINISHED, "epoch": 1.0, "epochs": 1.0}
        (directory / schema.STATUS).write_text(json.dumps(status))


def _files(policy: str) -> tuple[dict[str, Any], pa.Table]:
    """The options and metrics of a run, evaluated as often as `ROWS` asks for."""
    with tempfile.TemporaryDirectory(prefix="atbptt-benchmark-") as folder:
        path = run(settings_of(*SMALL, f"truncation={policy}", f"output_dir={folder}")).path
        (options,) = pq.read_table(path / schema.OPTIONS).to_pylist()
        once = pq.read_table(path / schema.METRICS).cast(schema.METRICS_SCHEMA)
    later = [_later(once, repeat) for repeat in range(-(-ROWS // len(once)))]
    return options, pa.concat_tables(later).slice(0, ROWS).combine_chunks()


def _later(metrics: pa.Table, repeat: int) -> pa.Table:
    columns = {name: metrics[name] for name in metrics.schema.names}
    for name in CLOCKS:
        clock = metrics[name].to_numpy()
        columns[name] = pa.array(clock + repeat * (clock.max() + 1))
    return pa.table(columns, schema=metrics.schema)


def _measured(call: str, count: str, expected: int | None = None, repeats: int = REPEATS) -> Measured:
    """A call in processes of their own: the median of seconds, and the peak of the memory of the process.

    Arguments:
        call: in Python.
        count: rows of what it returns, `found`.
        expected: how many there must be.
        repeats: how many.
    """
    answers = []
    for _ in range(repeats):
        program = CALL.format(call=call, count=count)
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0 or done.stderr:
            raise RuntimeError(f"{call} failed:\n{done.stdout}{done.stderr}")
        answers.append(json.loads(done.stdout))
        if answers[-1][2] != expected and expected is not None:
            raise RuntimeError(f"{call} found {answers[-1][2]} rows, {expected} were expected")
    seconds, peaks, _ = zip(*answers, strict=True)
    return Measured(tuple(seconds), max(peaks))
