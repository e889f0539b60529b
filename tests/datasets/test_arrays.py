from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbptt.datasets import Arrays
from atbptt.errors import ConfigError
from atbptt.windows.streams import batchify

SPLITS = ("train", "valid", "test")
STEPS = {"train": 12, "valid": 8, "test": 6}
RELEASED = Path(__file__).parents[2].parent / "shared" / "data" / "released_copy"


def sequences(*columns: int, names: tuple[str, str] = ("inputs", "targets"), **changes: Any) -> dict[str, Any]:
    """Arrays of all splits by name: symbols 0..4, targets the inputs plus one modulo 5."""
    arrays = {}
    for i, split in enumerate(SPLITS):
        inputs = (np.arange(STEPS[split] * max(1, *columns, 1)) + i) % 5
        inputs = inputs.reshape(STEPS[split], *columns)
        arrays[f"{split}_{names[0]}"] = inputs
        arrays[f"{split}_{names[1]}"] = (inputs + 1) % 5
    arrays.update(changes)
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def made(path: Path, arrays: dict[str, Any], **options: Any) -> Arrays:
    np.savez(path, **arrays)
    return Arrays(str(path), **options)


@pytest.mark.parametrize("names", [("inputs", "targets"), ("X", "Y")])
def test_both_conventions_of_names_are_read(path: Path, names: tuple[str, str]) -> None:
    arrays = sequences(3, names=names)
    task = made(path, arrays)
    for split in SPLITS:
        stream = getattr(task, split)
        assert stream.inputs.tolist() == arrays[f"{split}_{names[0]}"].tolist()
        assert stream.targets.tolist() == arrays[f"{split}_{names[1]}"].tolist()
        assert stream.inputs.dtype == torch.int64
    assert task.input_size == task.output_size == 5


@pytest.mark.parametrize("kind", ["int8", "uint8", "uint16", "int32"])
def test_integers_of_any_width_are_read(path: Path, kind: str) -> None:
    arrays = sequences(3)
    task = made(path, {name: array.astype(kind) for name, array in arrays.items()})
    assert task.valid.targets.tolist() == arrays["valid_targets"].tolist()


def test_a_compressed_file_is_read(path: Path) -> None:
    np.savez_compressed(path, **sequences(3))
    assert Arrays(str(path)).train.inputs.shape == (12, 3)


def test_the_first_streams_are_taken(path: Path) -> None:
    arrays = sequences(3)
    task = made(path, arrays, batch_size=2)
    assert task.train.inputs.tolist() == arrays["train_inputs"][:, :2].tolist()
    assert task.test.targets.tolist() == arrays["test_targets"][:, :2].tolist()


def test_one_long_sequence_is_cut_in_contiguous_pieces_side_by_side() -> None:
    assert batchify(np.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert batchify(np.arange(6), 2).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert batchify(np.arange(3), 1).tolist() == [[0], [1], [2]]


def test_1d_arrays_are_cut_in_streams(path: Path) -> None:
    arrays = sequences()
    task = made(path, arrays, batch_size=2)
    assert task.train.inputs.tolist() == batchify(arrays["train_inputs"], 2).tolist()
    assert task.train.targets.tolist() == batchify(arrays["train_targets"], 2).tolist()
    assert [getattr(task, s).inputs.shape for s in SPLITS] == [(6, 2), (4, 2), (3, 2)]


def test_symbols_are_counted_over_all_splits_inputs_and_targets(path: Path) -> None:
    arrays = sequences(3)
    arrays["test_targets"] = arrays["test_targets"] + 4
    assert made(path, arrays).input_size == 9
    assert made(path, arrays, symbols=12).output_size == 12
    assert made(path, arrays, symbols=9).output_size == 9


def columns(split: str = "train") -> np.ndarray:
    return sequences(3)[f"{split}_inputs"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"valid_targets": None},
            r"^path \(=.*mine.npz\) lacks the array valid_targets; it must hold valid_inputs and valid_targets for "
            r"each of train, valid, test, and holds test_inputs, test_targets, train_inputs, ",
        ),
        ({"test_inputs": None, "test_targets": None}, r"^path .* lacks the array test_inputs; it must hold "),
        (
            {"train_targets": columns()[:-1]},
            r"^path .* has train_inputs of shape \(12, 3\) and train_targets of shape \(11, 3\); they must match$",
        ),
        ({"train_inputs": columns() * 1.0}, r"^train_inputs \(=.*float64.*\) in .*mine.npz must hold integers$"),
        ({"train_inputs": columns() > 1}, r"^train_inputs \(=.*bool.*\) in .*mine.npz must hold integers$"),
        ({"test_targets": columns("test") - 1}, r"^test_targets \(=-1\) in .* must hold no negative symbol$"),
        (
            {"train_inputs": columns()[..., None]},
            r"^train_inputs \(=\(12, 3, 1\)\) in .*mine.npz must be of shape \(T,\) or \(T, B\)$",
        ),
        ({"train_inputs": np.array(3)}, r"^train_inputs \(=\(\)\) in .* must be of shape \(T,\) or \(T, B\)$"),
        ({"train_inputs": columns()[:1]}, r"^train_inputs \(=\(1, 3\)\) in .* must have at least 2 steps$"),
        ({"train_inputs": columns()[:, :0]}, r"^train_inputs \(=\(12, 0\)\) in .* must have at least 2 steps$"),
        ({"train_inputs": columns().astype(object)}, r"^path \(=.*mine.npz\) cannot be read as an .npz file: .*pickle"),
    ],
)
def test_bad_arrays_are_refused_by_name_value_and_rule(path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(path, sequences(3, **changes))


def test_released_names_are_asked_for_where_one_of_them_is_there(path: Path) -> None:
    with pytest.raises(ConfigError, match="lacks the array train_Y; it must hold train_X and train_Y for each"):
        made(path, sequences(3, names=("X", "Y"), train_Y=None))


def test_an_empty_archive_holds_nothing(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks the array train_inputs; .* and holds nothing$"):
        made(path, {})


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3,), {"symbols": 4}, r"^symbols \(=4\) must exceed the largest symbol in .*mine.npz \(=4\)$"),
        ((3,), {"batch_size": 4}, r"^batch_size \(=4\) must not exceed the 3 streams of the train arrays$"),
        ((3,), {"batch_size": 0}, r"^batch_size \(=0\) must be at least 1, or null$"),
        ((), {}, r"^batch_size \(=null\) must be given: the train arrays are 1-D$"),
        (
            (),
            {"batch_size": 4},
            r"^batch_size \(=4\) is too large for the 6 steps of the test arrays: at least 2 steps a stream$",
        ),
    ],
)
def test_options_that_do_not_fit_the_arrays_are_refused(
    path: Path, shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        made(path, sequences(*shape), **options)


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^path \(={re.escape(str(path))}\) must be an .npz file; there is none$"):
        Arrays(str(path))


CANNOT_BE_READ = r"^path \(=.*mine.npz\) cannot be read as an .npz file: "


@pytest.mark.parametrize("text", ["hello", "PK\x03\x04 and no more"])
def test_a_file_of_another_kind_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=CANNOT_BE_READ):
        Arrays(str(path))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(path: Path, part: float) -> None:
    np.savez(path, **sequences(3))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ConfigError, match=CANNOT_BE_READ):
        Arrays(str(path))


def test_an_empty_file_is_refused(path: Path) -> None:
    path.touch()
    with pytest.raises(ConfigError, match=CANNOT_BE_READ):
        Arrays(str(path))


def test_a_single_array_is_refused(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.arange(5))
    with pytest.raises(ConfigError, match=CANNOT_BE_READ):
        Arrays(str(path))


def test_a_damaged_file_is_refused(path: Path) -> None:
    np.savez_compressed(path, **{name: np.tile(array, (50, 1)) for name, array in sequences(3).items()})
    damaged = bytearray(path.read_bytes())
    start = damaged.index(b"train_inputs.npy") + 40
    damaged[start : start + 20] = bytes(20)
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match=CANNOT_BE_READ):
        Arrays(str(path))


def test_integers_of_foreign_byte_order_are_read(path: Path) -> None:
    arrays = sequences(3)
    task = made(path, {name: array.astype(">i4") for name, array in arrays.items()})
    assert task.train.inputs.tolist() == arrays["train_inputs"].tolist()


@pytest.mark.skipif(not RELEASED.is_dir(), reason="needs the released data in ../shared/data/released_copy")
@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_the_released_copy_data_is_read_as_it_is(kind: str) -> None:
    path = RELEASED / f"released_copy_{kind}.npz"
    task = Arrays(str(path))
    assert [getattr(task, s).inputs.shape for s in SPLITS] == [(4000, 64), (1000, 64), (1000, 64)]
    assert task.input_size == 6
    with np.load(path) as archive:
        for split in SPLITS:
            assert np.array_equal(getattr(task, split).inputs.numpy(), archive[f"{split}_X"])
            assert np.array_equal(getattr(task, split).targets.numpy(), archive[f"{split}_Y"])


@pytest.mark.skipif(not RELEASED.is_dir(), reason="needs the released data in ../shared/data/released_copy")
def test_the_released_copy_data_has_copied_tokens_without_their_target() -> None:
    """The defect for which it is kept: the target is not always the input ten steps before."""
    train = Arrays(str(RELEASED / "released_copy_fixed.npz")).train
    differ = (train.targets[10:] != train.inputs[:-10]).float().mean().item()
    assert 0 < differ < 0.3


def test_what_is_dropped_is_noted(path: Path) -> None:
    notes = made(path, sequences(), batch_size=2).notes
    assert notes[0] == "train: 12 symbols in 2 streams of 6 steps, none dropped"
    assert made(path, sequences(3), batch_size=2).notes[0] == "train: the first 2 of 3 streams"
    assert made(path, sequences(3)).notes == ()
