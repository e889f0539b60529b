"""Differences between two output folders of the same command, bit for bit except for times."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atbptt.runs import schema

TABLES = (schema.METRICS, schema.GRADIENTS, schema.POSITIONS, schema.PREDICTIONS, schema.OPTIONS)
TIMES = ("train_seconds", "compute_seconds")  # columns that may differ, and ...
# ... metrics whose values may differ
TIMED_METRICS = ("steps_per_second", "steps_per_compute_second", "processor_seconds", "peak_memory_mb")


def runs(output: Path) -> dict[str, Path]:
    """The run directories of an output folder by `<name>/<experiment_id>`, whatever they hold."""
    return {f"{path.parent.name}/{path.name}": path for path in sorted(output.glob("[!.]*/[!.]*")) if path.is_dir()}


def differences(output: Path, undisturbed: Path, only: Collection[str] | None = None) -> Iterator[str]:
    """How the runs, tables and parameters in two output folders differ; of the second, perhaps `only` some runs."""
    found, expected = runs(output), runs(undisturbed)
    if only is not None:
        expected = {name: expected[name] for name in only}
    yield from (f"{name}: lost" for name in expected.keys() - found.keys())
    yield from (f"{name}: there is no such run undisturbed" for name in found.keys() - expected.keys())
    for name in sorted(found.keys() & expected.keys()):
        try:
            differing = list(differences_of_a_run(found[name], expected[name]))
        except Exception as error:  # a file that is missing or cannot be read
            differing = [f"{type(error).__name__}: {error}"]
        yield from (f"{name}: {what}" for what in differing)


def differences_of_a_run(path: Path, expected: Path) -> Iterator[str]:
    for name in TABLES:
        table, other = (pq.ParquetFile(folder / name).read() for folder in (path, expected))
        yield from (f"{name}: {what}" for what in _of_a_table(table, other))
    state, other_state = (
        dict(_leaves({part: stored[part] for part in ("model", "optimizer")}))
        for stored in (torch.load(folder / schema.CHECKPOINT, "cpu", weights_only=False) for folder in (path, expected))
    )
    differing = [key for key in state.keys() | other_state.keys() if state.get(key) != other_state.get(key)]
    yield from (f"{schema.CHECKPOINT}: {key} differs" for key in sorted(differing))


def _of_a_table(table: pa.Table, other: pa.Table) -> Iterator[str]:
    """The first row in which each column differs."""
    if not table.schema.equals(other.schema):
        yield f"columns {table.schema.names} instead of {other.schema.names}"
        return
    if len(table) != len(other):
        yield f"{len(table)} rows instead of {len(other)}"
        return
    metrics = table["metric"].to_pylist() if "metric" in table.schema.names else [None] * len(table)
    for column in set(table.schema.names) - {*TIMES, "output_dir"}:
        values, others = (map(repr, t[column].to_pylist()) for t in (table, other))  # NaN is NaN, and 0 is not -0
        for row, (value, other_value, metric) in enumerate(zip(values, others, metrics, strict=True)):
            if value != other_value and not (column == "value" and metric in TIMED_METRICS):
                yield f"{column} of row {row} is {value} instead of {other_value}"
                break


def _leaves(state: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors (as bytes) and numbers of a nested state, by their place in it."""
    if isinstance(state, dict | list | tuple):
        for key, part in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _leaves(part, f"{place}.{key}".lstrip("."))
    elif isinstance(state, torch.Tensor):
        yield place, (state.dtype, state.shape, state.numpy().tobytes())
    else:
        yield place, state
