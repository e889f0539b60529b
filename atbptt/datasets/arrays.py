"""Arrays: integer sequences from an .npz file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from atbptt.datasets.task import SPLITS, SymbolTask, cut, cut_note, symbol_stream
from atbptt.errors import ConfigError, listed, require
from atbptt.windows import Stream

# Names of a split's arrays; the second pair is that of the released code.
NAMES = ("{}_inputs", "{}_targets"), ("{}_X", "{}_Y")


class Arrays(SymbolTask):
    """Symbols from `train_inputs`, `train_targets`, `valid_inputs`, ... (or `train_X`, `train_Y`, ...).

    Inputs and targets of a split have the same shape: (T, B), of which the first `batch_size` streams are taken, or
    (T,), which is cut in `batch_size` contiguous streams (the remainder is dropped).

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
        self.notes: list[str] = []
        self.train, self.valid, self.test = (self._stream(*arrays[split], split, batch_size) for split in SPLITS)

    def _stream(self, inputs: np.ndarray, targets: np.ndarray, split: str, batch_size: int | None) -> Stream:
        if inputs.ndim == 1:
            if batch_size is None:
                raise ConfigError("batch_size", f"(=null) must be given: the {split} arrays are 1-D")
            self.notes.append(cut_note(split, "symbols", len(inputs), batch_size))
            return symbol_stream(*cut((inputs, targets), batch_size, f"{len(inputs)} steps of the {split} arrays"))
        streams = inputs.shape[1]
        rule = f"must not exceed the {streams} streams of the {split} arrays"
        require((batch_size or 1) <= streams, "batch_size", batch_size, rule)
        if batch_size not in (None, streams):
            self.notes.append(f"{split}: the first {batch_size} of {streams} streams")
        return symbol_stream(inputs[:, :batch_size], targets[:, :batch_size])


def _read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
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
            rule = f"lacks the array {name}; it must hold {' and '.join(pair)} for each of {listed(SPLITS)}"
            require(name in found, "path", str(path), f"{rule}, and holds {listed(sorted(found)) or 'nothing'}")
            _check(found[name], name, path)
        inputs, targets = (found[name] for name in pair)
        rule = f"has {pair[0]} of shape {inputs.shape} and {pair[1]} of shape {targets.shape}; they must match"
        require(inputs.shape == targets.shape, "path", str(path), rule)
        arrays[split] = inputs, targets
    return arrays


def _check(array: np.ndarray, name: str, path: Path) -> None:
    require(array.ndim in (1, 2), name, array.shape, f"in {path} must be of shape (T,) or (T, B)")
    require(np.issubdtype(array.dtype, np.integer), name, array.dtype, f"in {path} must hold integers")
    require(len(array) >= 2 and array.size > 0, name, array.shape, f"in {path} must have at least 2 steps")
    require(int(array.min()) >= 0, name, int(array.min()), f"in {path} must hold no negative symbol")
