"""Arrays: a user's own integer sequences from an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from atbptt.datasets.task import SPLITS, SymbolTask, batchify_note, require_two_steps, symbol_stream
from atbptt.errors import ConfigError, require
from atbptt.windows import Stream, batchify

# The arrays of a split, by the names of either convention; the second is the released code's.
NAMES = ("{}_inputs", "{}_targets"), ("{}_X", "{}_Y")


class Arrays(SymbolTask):
    """Symbols from `train_inputs`, `train_targets`, `valid_inputs`, ... (or `train_X`, `train_Y`, ...).

    Each array is (T, B), streams read side by side, of which the first `batch_size` are taken, or (T,), one
    long sequence that is cut into `batch_size` contiguous pieces (the remainder is dropped). Inputs and
    targets of a split have the same shape.

    Arguments:
        path: the .npz file.
        symbols: V, for inputs and targets; null takes the largest symbol + 1.
        batch_size: streams B; null takes all columns of (T, B) arrays.
    """

    def __init__(self, path: str, symbols: int | None = None, batch_size: int | None = None) -> None:
        require(batch_size is None or batch_size >= 1, "batch_size", batch_size, "must be at least 1, or null")
        arrays = _read(Path(path))
        largest = max(int(array.max()) for pair in arrays.values() for array in pair)
        if symbols is None:
            symbols = largest + 1
        require(symbols > largest, "symbols", symbols, f"must exceed the largest symbol in {path} (={largest})")
        self.input_size = self.output_size = symbols
        self.train, self.valid, self.test = (_stream(*arrays[split], split, batch_size) for split in SPLITS)
        self.notes = tuple(
            batchify_note(split, "symbols", len(inputs), batch_size)
            for split, (inputs, _) in arrays.items()
            if inputs.ndim == 1 and batch_size is not None
        ) + tuple(
            f"{split}: the first {batch_size} of {inputs.shape[1]} streams"
            for split, (inputs, _) in arrays.items()
            if inputs.ndim == 2 and batch_size not in (None, inputs.shape[1])
        )


def _stream(inputs: np.ndarray, targets: np.ndarray, split: str, batch_size: int | None) -> Stream:
    if inputs.ndim == 1:
        require(batch_size is not None, "batch_size", batch_size, f"must be given: the {split} arrays are 1-D")
        assert batch_size is not None
        require_two_steps(batch_size, len(inputs), f"{len(inputs)} steps of the {split} arrays")
        return symbol_stream(batchify(inputs, batch_size), batchify(targets, batch_size))
    columns = inputs.shape[1]
    require(
        (batch_size or 1) <= columns,
        "batch_size",
        batch_size,
        f"must not exceed the {columns} streams of the {split} arrays",
    )
    return symbol_stream(inputs[:, :batch_size], targets[:, :batch_size])


def _read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The pair (inputs, targets) of each split, checked."""
    require(path.is_file(), "path", str(path), "must be an .npz file; there is none")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zlib.error, zipfile.BadZipFile) as error:
        raise ConfigError("path", f"(={path}) cannot be read as an .npz file: {error}") from error
    arrays = {}
    for split in SPLITS:
        pairs = [tuple(name.format(split) for name in names) for names in NAMES]
        pair = next((names for names in pairs if any(name in found for name in names)), pairs[0])
        for name in pair:
            require(
                name in found,
                "path",
                str(path),
                f"lacks the array {name}; it must hold {' and '.join(pair)} for each of "
                f"{', '.join(SPLITS)}, and holds {', '.join(sorted(found)) or 'nothing'}",
            )
            _check(found[name], name, path)
        inputs, targets = (found[name] for name in pair)
        require(
            inputs.shape == targets.shape,
            "path",
            str(path),
            f"has {pair[0]} of shape {inputs.shape} and {pair[1]} of shape {targets.shape}; they must match",
        )
        arrays[split] = inputs, targets
    return arrays


def _check(array: np.ndarray, name: str, path: Path) -> None:
    where = f"in {path}"
    require(array.ndim in (1, 2), name, array.shape, f"{where} must be of shape (T,) or (T, B)")
    require(np.issubdtype(array.dtype, np.integer), name, array.dtype, f"{where} must hold integers")
    require(len(array) >= 2 and array.size > 0, name, array.shape, f"{where} must have at least 2 steps")
    require(int(array.min()) >= 0, name, int(array.min()), f"{where} must hold no negative symbol")
