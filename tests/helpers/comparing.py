"""What two output folders of the same command differ in, bit for bit, times aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atbptt.runs import schema

TIMES = ("train_seconds",)  # columns, and ...
TIMED_METRICS = ("steps_per_second",)  # ... metrics, whose values are times
KEYS = {  # what tells a table's rows apart
    schema.METRICS: ("step", "metric", "replicate"),
    schema.GRADIENTS: ("step", "replicate", "component", "lag"),
    schema.POSITIONS: ("step", "replicate", "position", "lag"),
    schema.PREDICTIONS: ("step", "stream", "position", "quantity"),
}


def runs(output: Path) -> dict[str, Path]:
    """The run directories of an output folder by `<name>/<experiment_id>`, whatever they hold."""
    return {f"{path.parent.name}/{path.name}": path for path in sorted(output.glob("[!.]*/[!.]*")) if path.is_dir()}


def differences(output: Path, undisturbed: Path, only: Collection[str] | None = None) -> Iterator[str]:
    """What runs, rows, options and parameters of `output` are not as in `undisturbed`; nothing if all are.

    Arguments:
        output: an output folder.
        undisturbed: that of the same command, where nothing happened to it.
        only: compare these runs of the latter; None compares all.
    """
    found, expected = runs(output), runs(undisturbed)
    if only is not None:
        expected = {name: expected[name] for name in only}
    yield from (f"{name}: lost" for name in expected.keys() - found.keys())
    yield from (f"{name}: there is no such run undisturbed" for name in found.keys() - expected.keys())
    yield from _duplicates(found)
    for name in sorted(found.keys() & expected.keys()):
        try:
            differing = list(_of_a_run(found[name], expected[name]))
        except Exception as error:  # a file that is missing or cannot be read
            differing = [f"{type(error).__name__}: {error}"]
        yield from (f"{name}: {what}" for what in differing)


def _duplicates(found: dict[str, Path]) -> Iterator[str]:
    """The same experiment in several directories, or a directory that holds another's."""
    ids: Counter[str] = Counter()
    for name, path in found.items():
        try:
            (options,) = pq.ParquetFile(path / schema.OPTIONS).read().to_pylist()
        except (OSError, ValueError) as error:
            yield f"{name}: {schema.OPTIONS} cannot be read as one row: {error}"
            continue
        ids[options["experiment_id"]] += 1
        if options["experiment_id"] != path.name:
            yield f"{name}: holds the options of {options['experiment_id']}"
    yield from (f"{name}: in {count} directories" for name, count in ids.items() if count > 1)


def _of_a_run(path: Path, expected: Path) -> Iterator[str]:
    for name, key in KEYS.items():
        table, other = (pq.ParquetFile(folder / name).read() for folder in (path, expected))
        repeated = Counter(zip(*(table[column].to_pylist() for column in key), strict=True))
        yield from (f"{name}: {count} rows of {row}" for row, count in repeated.items() if count > 1)
        yield from (f"{name}: {what}" for what in _of_a_table(table, other))
    options, other_options = (
        {key: value for key, value in _row(folder / schema.OPTIONS).items() if key != "output_dir"}
        for folder in (path, expected)
    )
    if options != other_options:
        yield f"{schema.OPTIONS}: {options} instead of {other_options}"
    states = [torch.load(f / schema.CHECKPOINT, map_location="cpu", weights_only=False) for f in (path, expected)]
    for part in ("model", "optimizer"):
        yield from (f"{schema.CHECKPOINT}: {what}" for what in _of_a_state(states[0][part], states[1][part], part))


def _row(path: Path) -> dict[str, Any]:
    (row,) = pq.ParquetFile(path).read().to_pylist()
    return dict(row)


def _of_a_table(table: pa.Table, other: pa.Table) -> Iterator[str]:
    """The first row in which each column differs."""
    if not table.schema.equals(other.schema):
        yield f"columns {table.schema.names} instead of {other.schema.names}"
        return
    if len(table) != len(other):
        yield f"{len(table)} rows instead of {len(other)}"
    rows = min(len(table), len(other))
    timed = np.zeros(rows, dtype=bool)
    if "metric" in table.schema.names:
        timed = np.isin(np.array(table["metric"].to_pylist()[:rows], dtype=object), TIMED_METRICS)
    for column in table.schema.names:
        if column in TIMES:
            continue
        unequal = _unequal(*(t[column].combine_chunks().slice(0, rows) for t in (table, other)))
        (differ,) = np.nonzero(unequal & ~timed if column == "value" else unequal)
        if len(differ):
            row = int(differ[0])
            yield (
                f"{column} of row {row} (step {table['step'][row]}) is {table[column][row]} "
                f"instead of {other[column][row]}, and {len(differ) - 1} rows more"
            )


def _unequal(column: pa.Array, other: pa.Array) -> np.ndarray:
    """Where two columns differ, by the bits of their numbers: NaN is NaN, and 0 is not -0."""
    nulls = [np.array(part.is_null()) for part in (column, other)]
    if pa.types.is_float64(column.type):
        column, other = (part.view(pa.int64()).fill_null(0) for part in (column, other))
    values = [np.array(part.to_pylist(), dtype=object) for part in (column, other)]
    unequal: np.ndarray = (nulls[0] != nulls[1]) | (values[0] != values[1])
    return unequal


def _of_a_state(state: Any, other: Any, place: str) -> Iterator[str]:
    """Where two nested states of tensors and numbers differ."""
    if type(state) is not type(other):
        yield f"{place} is a {type(state).__name__} instead of a {type(other).__name__}"
    elif isinstance(state, torch.Tensor):
        same = state.dtype == other.dtype and state.shape == other.shape
        if not same or state.numpy().tobytes() != other.numpy().tobytes():
            yield f"{place} differs"
    elif isinstance(state, dict):
        if state.keys() != other.keys():
            yield f"{place} has {sorted(map(str, state))} instead of {sorted(map(str, other))}"
        for key in state.keys() & other.keys():
            yield from _of_a_state(state[key], other[key], f"{place}.{key}")
    elif isinstance(state, list | tuple):
        if len(state) != len(other):
            yield f"{place} has {len(state)} parts instead of {len(other)}"
        for i, (part, other_part) in enumerate(zip(state, other, strict=False)):
            yield from _of_a_state(part, other_part, f"{place}.{i}")
    elif state != other:
        yield f"{place} is {state!r} instead of {other!r}"
