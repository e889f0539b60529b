"""Differences between two output folders of the same command, bit for bit except for times."""

import io
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atbptt.runs import read_checkpoint, schema

TABLES = (schema.METRICS, schema.GRADIENTS, schema.POSITIONS, schema.PREDICTIONS, schema.OPTIONS)
TIMES = ("train_seconds", "compute_seconds")  # columns that may differ, and ...
# ... metrics whose values may differ
TIMED_METRICS = ("steps_per_second", "steps_per_compute_second", "processor_seconds", "peak_memory_mb")
# Parts of a checkpoint that may differ: seconds and memory. Its tables are compared as tables.
COSTS = tuple(f"{place}." for place in (*TIMES, "costs", "sums.seconds", "sums.compute_seconds"))
# Entries of status.json that may not; the others tell of attempts, processes and times.
BUDGET = ("epochs", "seconds", "patience")
RESULTS = ("experiment_id", "state", "error", *BUDGET, "step", "epoch", "K", "monitor", "best", "best_epoch", "waited")


def runs(output: Path) -> dict[str, Path]:
    """The run directories of an output folder by `<name>/<experiment_id>`, whatever they hold."""
    return {f"{path.parent.name}/{path.name}": path for path in sorted(output.glob("[!.]*/[!.]*")) if path.is_dir()}


def differences(output: Path, undisturbed: Path, only: Collection[str] | None = None) -> Iterator[str]:
    """How tables, checkpoints and statuses in two output folders differ; of the second, perhaps of `only` some runs."""
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
        if not (path / name).exists() and not (expected / name).exists():
            continue  # of a run without probes
        table, other = (pq.ParquetFile(folder / name).read() for folder in (path, expected))
        yield from (f"{name}: {what}" for what in _of_a_table(table, other))
    state, other_state = (read_checkpoint(folder / schema.CHECKPOINT) for folder in (path, expected))
    tables, other_tables = state.pop("tables"), other_state.pop("tables")
    yield from (f"{schema.CHECKPOINT}: {name} differs" for name in sorted(tables.keys() ^ other_tables.keys()))
    for name in sorted(tables.keys() & other_tables.keys()):
        table, other = (pq.read_table(io.BytesIO(content[name])) for content in (tables, other_tables))
        yield from (f"{schema.CHECKPOINT}: {name}: {what}" for what in _of_a_table(table, other))
    yield from (f"{schema.CHECKPOINT}: {place} differs" for place in _differing(state, other_state))
    best, other_best = (_best(folder) for folder in (path, expected))
    yield from (f"{schema.BEST}: {place} differs" for place in _differing(best, other_best))
    status, other_status = (json.loads((folder / schema.STATUS).read_text()) for folder in (path, expected))
    for name in RESULTS:
        value, other_value = (repr(stored.get(name, "missing")) for stored in (status, other_status))
        if value != other_value:
            yield f"{schema.STATUS}: {name} is {value} instead of {other_value}"


def _best(folder: Path) -> dict[str, Any]:
    try:
        return read_checkpoint(folder / schema.BEST)
    except FileNotFoundError:
        return {}


def _differing(stored: Any, other: Any) -> list[str]:
    """The places in two checkpoints whose values differ, costs aside."""
    leaves, other_leaves = (
        {(place, value) for place, value in _leaves(each) if not f"{place}.".startswith(COSTS)}
        for each in (stored, other)
    )
    return sorted(dict(leaves ^ other_leaves))


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
    """The tensors (as bytes) and other values (as text) of a nested state, by their place in it."""
    if isinstance(state, dict | list | tuple):
        yield place, f"{type(state).__name__} of {len(state)}"
        for key, part in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _leaves(part, f"{place}.{key}".lstrip("."))
    elif isinstance(state, torch.Tensor):
        yield place, (state.dtype, state.shape, state.numpy().tobytes())
    else:
        yield place, repr(state)  # NaN is NaN
