"""Arrays: integer sequences from an .npz file."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from atbptt.datasets.reading import checked
from atbptt.datasets.task import SPLITS, SymbolTask, cut, cut_note, symbol_stream
from atbptt.errors import ConfigError, described, listed, require, show
from atbptt.system import open_file, require_memory
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

    @staticmethod
    def data_files(arguments: Mapping[str, Any]) -> list[Path]:
        return checked([Path(arguments["path"])])

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
    checked([path])
    require(path.is_file(), "path", str(path), "must be an .npz file; there is none")
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            return _arrays(path, archive)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        if isinstance(error, ConfigError):
            raise
        raise _unreadable(path, described(error)) from error


def _unreadable(path: Path, reason: str) -> ConfigError:
    return ConfigError("path", f"(={show(str(path))}) cannot be read as an .npz file: {reason}")


def _arrays(path: Path, archive: zipfile.ZipFile) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    chosen = {}
    for split in SPLITS:
        pairs = [tuple(name.format(split) for name in names) for names in NAMES]
        pair = next((names for names in pairs if any(name in members for name in names)), pairs[0])
        for name in pair:
            rule = f"lacks the array {name}; it must hold {' and '.join(pair)} for each of {listed(SPLITS)}"
            holds = show(listed(sorted(members))) if members else "nothing"
            require(name in members, "path", str(path), f"{rule}, and holds {holds}")
        chosen[split] = pair
    shapes = {name: _shape(path, archive, members[name]) for pair in chosen.values() for name in pair}
    # As they are stored, and as int64 in streams.
    sizes = [members[name].file_size + 8 * math.prod(shape) for name, shape in shapes.items()]
    require_memory("path", str(path), sum(sizes), f"with arrays of the shapes {show(list(shapes.values()))}")
    arrays = {}
    for split, (inputs, targets) in chosen.items():
        rule = f"has {inputs} of shape {shapes[inputs]} and {targets} of shape {shapes[targets]}; they must match"
        require(shapes[inputs] == shapes[targets], "path", str(path), rule)
        arrays[split] = _array(path, archive, members[inputs]), _array(path, archive, members[targets])
    return arrays


def _shape(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """The shape in a member's header, whose numbers are all there; nothing else of it is read."""
    name = member.filename.removesuffix(".npy")
    with _member(path, archive, member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        there = member.file_size - file.tell()
    require(len(shape) in (1, 2), name, shape, f"in {path} must be of shape (T,) or (T, B)")
    require(dtype.kind in "iu", name, str(dtype), f"in {path} must hold integers")
    require(shape[0] >= 2 and math.prod(shape) > 0, name, shape, f"in {path} must have at least 2 steps")
    rule = f"in {path} has {there} bytes, which are not the numbers of its shape"
    require(there == math.prod(shape) * dtype.itemsize, name, shape, rule)
    return shape


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with _member(path, archive, member) as file:
        array: np.ndarray = npy.read_array(file, allow_pickle=False)
    least = int(array.min())
    require(least >= 0, member.filename.removesuffix(".npy"), least, f"in {path} must hold no negative symbol")
    return array


@contextmanager
def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """A member to read; what is wrong with it is told by its name."""
    try:
        with archive.open(member) as file:
            yield file
    except ConfigError:
        raise
    except Exception as error:  # of the compression, of its encryption, of the header
        raise _unreadable(path, f"its member {show(member.filename)}: {described(error)}") from error
