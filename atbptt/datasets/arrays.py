"""Arrays: integer sequences from an .npz file."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy

from atbptt.datasets.reading import checked
from atbptt.datasets.task import SPLITS, SymbolTask, cut, cut_note, symbol_stream
from atbptt.errors import ConfigError, described, listed, require, show
from atbptt.system import open_file, require_memory
from atbptt.windows import Stream

# Names of a split's arrays; the second pair is that of the released code.
NAMES = ("{}_inputs", "{}_targets"), ("{}_X", "{}_Y")
# Arrays that a split may have besides, as `train_counted`: their kinds of numbers, and what these are called.
OPTIONAL = {"counted": ("biuf", "booleans or weights"), "resets": ("b", "booleans")}
KINDS = {f"{split}_{part}": kinds for part, kinds in OPTIONAL.items() for split in SPLITS}


class Arrays(SymbolTask):
    """Symbols from `train_inputs`, `train_targets`, `valid_inputs`, ... (or `train_X`, `train_Y`, ...).

    Inputs and targets of a split have the same shape: (T, B), of which the first `batch_size` streams are taken, or
    (T,), which is cut in `batch_size` contiguous streams (the remainder is dropped). An array `train_counted` of their
    shape, if there is one, says which losses count: booleans, or weights from 0 on; and `train_resets` where a new
    sequence begins, in booleans. So for `valid` and `test`.

    Arguments:
        path: the .npz file.
        symbols: V, for inputs and targets; null takes the largest symbol + 1.
        batch_size: streams B; null takes all columns of (T, B) arrays.
        ignored: a symbol, which may be negative, of targets whose losses do not count; null for none.
    """

    def __init__(
        self, path: str, symbols: int | None = None, batch_size: int | None = None, ignored: int | None = None
    ) -> None:
        require(batch_size is None or batch_size >= 1, "batch_size", batch_size, "must be at least 1, or null")
        arrays = _read(Path(path), ignored)
        largest = max(int(parts[name].max()) for parts in arrays.values() for name in ("inputs", "targets"))
        if symbols is None:
            symbols = largest + 1
        require(symbols > largest, "symbols", symbols, f"must exceed the largest symbol in {path} (={largest})")
        self.input_size = self.output_size = symbols
        self.notes: list[str] = []
        self.train, self.valid, self.test = (self._stream(arrays[split], split, batch_size) for split in SPLITS)

    @staticmethod
    def data_files(arguments: Mapping[str, Any]) -> list[Path]:
        return checked([Path(arguments["path"])])

    def _stream(self, arrays: dict[str, np.ndarray], split: str, batch_size: int | None) -> Stream:
        length = len(arrays["inputs"])
        if arrays["inputs"].ndim == 1:
            if batch_size is None:
                raise ConfigError("batch_size", f"(=null) must be given: the {split} arrays are 1-D")
            self.notes.append(cut_note(split, "symbols", length, batch_size))
            parts = cut([*arrays.values()], batch_size, f"{length} steps of the {split} arrays")
        else:
            streams = arrays["inputs"].shape[1]
            rule = f"must not exceed the {streams} streams of the {split} arrays"
            require((batch_size or 1) <= streams, "batch_size", batch_size, rule)
            if batch_size not in (None, streams):
                self.notes.append(f"{split}: the first {batch_size} of {streams} streams")
            parts = [part[:, :batch_size] for part in arrays.values()]
        named = dict(zip(arrays, parts, strict=True))
        masks = {}
        if (counted := named.get("counted")) is not None:
            self.notes.append(f"{split}: {np.count_nonzero(counted):,} of {counted.size:,} losses count")
            masks["counted"] = counted if counted.dtype == bool else counted.astype(np.float32)
        if (resets := named.get("resets")) is not None:
            self.notes.append(f"{split}: {np.count_nonzero(resets):,} sequences begin within the streams")
            masks["resets"] = resets
        stream = symbol_stream(named["inputs"], named["targets"])
        return replace(stream, **{name: torch.from_numpy(np.ascontiguousarray(mask)) for name, mask in masks.items()})


# Of each split `inputs`, `targets` and, where there are such, `counted` and `resets`.
Parts = dict[str, dict[str, np.ndarray]]


def _read(path: Path, ignored: int | None) -> Parts:
    checked([path])
    require(path.is_file(), "path", str(path), "must be an .npz file; there is none")
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            return _arrays(path, archive, ignored)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        if isinstance(error, ConfigError):
            raise
        raise _unreadable(path, described(error)) from error


def _unreadable(path: Path, reason: str) -> ConfigError:
    return ConfigError("path", f"(={show(str(path))}) cannot be read as an .npz file: {reason}")


def _arrays(path: Path, archive: zipfile.ZipFile, ignored: int | None) -> Parts:
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    chosen: dict[str, dict[str, str]] = {}
    for split in SPLITS:
        pairs = [tuple(name.format(split) for name in names) for names in NAMES]
        pair = next((names for names in pairs if any(name in members for name in names)), pairs[0])
        for name in pair:
            rule = f"lacks the array {name}; it must hold {' and '.join(pair)} for each of {listed(SPLITS)}"
            holds = show(listed(sorted(members))) if members else "nothing"
            require(name in members, "path", str(path), f"{rule}, and holds {holds}")
        others = {part: f"{split}_{part}" for part in OPTIONAL}
        chosen[split] = {"inputs": pair[0], "targets": pair[1]}
        chosen[split] |= {part: name for part, name in others.items() if name in members}
    read = {name for names in chosen.values() for name in names.values()}
    unread = [name for name in members if name.partition("_")[0] in SPLITS and name not in read]
    rule = f"holds {show(listed(unread))}, which would not be read: besides {' and '.join(pair)} there may be "
    require(not unread, "path", str(path), rule + " and ".join(others.values()))
    shapes = {name: _shape(path, archive, members[name]) for names in chosen.values() for name in names.values()}
    # As they are stored, and as int64 in streams.
    sizes = [members[name].file_size + 8 * math.prod(shape) for name, shape in shapes.items()]
    require_memory("path", str(path), sum(sizes), f"with arrays of the shapes {show(list(shapes.values()))}")
    arrays = {}
    for split, names in chosen.items():
        first = names["inputs"]
        for name in names.values():
            rule = f"has {first} of shape {shapes[first]} and {name} of shape {shapes[name]}; they must match"
            require(shapes[first] == shapes[name], "path", str(path), rule)
        parts = {part: _array(path, archive, members[name]) for part, name in names.items()}
        if ignored is not None:
            counts = parts["targets"] != ignored
            parts["targets"] = np.where(counts, parts["targets"], 0)
            parts["counted"] = parts.get("counted", True) * counts
        for part in ("inputs", "targets"):
            least = int(parts[part].min())
            require(least >= 0, names[part], least, f"in {path} must hold no negative symbol")
        if (counted := parts.get("counted")) is not None:
            good = np.isfinite(counted) & (counted >= 0)
            rule = f"in {path} must be finite and at least 0"
            require(bool(good.all()), names.get("counted", ""), None if good.all() else float(counted[~good][0]), rule)
            require(bool(counted.any()), "path", str(path), f"counts no loss of the {split} split")
        arrays[split] = parts
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
    kinds, wanted = KINDS.get(name, ("iu", "integers"))
    require(dtype.kind in kinds, name, str(dtype), f"in {path} must hold {wanted}")
    require(shape[0] >= 2 and math.prod(shape) > 0, name, shape, f"in {path} must have at least 2 steps")
    rule = f"in {path} has {there} bytes, which are not the numbers of its shape"
    require(there == math.prod(shape) * dtype.itemsize, name, shape, rule)
    return shape


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with _member(path, archive, member) as file:
        array: np.ndarray = npy.read_array(file, allow_pickle=False)
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
