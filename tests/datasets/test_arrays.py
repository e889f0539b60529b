import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atbptt.datasets import SPLITS, Arrays
from atbptt.errors import ConfigError
from atbptt.windows import batchify

STEPS = {"train": 12, "valid": 8, "test": 6}


def sequences(*columns: int, names: tuple[str, str] = ("inputs", "targets"), **changes: Any) -> dict[str, Any]:
    """Arrays of all splits by name: symbols 0..4, targets the inputs plus one modulo 5."""
    arrays = {}
    for i, split in enumerate(SPLITS):
        inputs = ((np.arange(STEPS[split] * max(1, *columns, 1)) + i) % 5).reshape(STEPS[split], *columns)
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
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_conventions_of_names_are_read(path: Path, names: tuple[str, str], save: Any) -> None:
    arrays = sequences(3, names=names)
    save(path, **arrays)
    task = Arrays(str(path))
    for split in SPLITS:
        stream = getattr(task, split)
        assert stream.inputs.tolist() == arrays[f"{split}_{names[0]}"].tolist()
        assert stream.targets.tolist() == arrays[f"{split}_{names[1]}"].tolist()
    assert task.input_size == task.output_size == 5
    assert not task.notes


def test_the_first_streams_are_taken(path: Path) -> None:
    arrays = sequences(3)
    task = made(path, arrays, batch_size=2)
    assert task.train.inputs.tolist() == arrays["train_inputs"][:, :2].tolist()
    assert task.test.targets.tolist() == arrays["test_targets"][:, :2].tolist()
    assert task.notes[0] == "train: the first 2 of 3 streams"
    assert not made(path, arrays, batch_size=3).notes


def test_1d_arrays_are_cut_in_streams(path: Path) -> None:
    arrays = sequences()
    task = made(path, arrays, batch_size=2)
    assert task.train.inputs.tolist() == batchify(arrays["train_inputs"], 2).tolist()
    assert task.train.targets.tolist() == batchify(arrays["train_targets"], 2).tolist()
    assert [getattr(task, s).inputs.shape for s in SPLITS] == [(6, 2), (4, 2), (3, 2)]
    assert task.notes[0] == "train: 12 symbols in 2 streams of 6 steps, none dropped"
    assert "test: 6 symbols in 1 streams of 6 steps, none dropped" in made(path, arrays, batch_size=1).notes


def test_symbols_are_counted_over_all_splits_inputs_and_targets(path: Path) -> None:
    arrays = sequences(3)
    arrays["test_targets"] = arrays["test_targets"] + 4
    assert made(path, arrays).input_size == 9
    assert made(path, arrays, symbols=12).output_size == 12
    assert made(path, arrays, symbols=9).output_size == 9


@pytest.mark.parametrize("kind", [bool, np.int8, ">f4"])
@pytest.mark.parametrize("columns", [(), (3,)])
def test_arrays_say_which_losses_count(path: Path, kind: Any, columns: tuple[int, ...]) -> None:
    arrays = sequences(*columns)
    arrays["train_counted"] = (arrays["train_inputs"] != 2).astype(kind)
    task = made(path, arrays, batch_size=2)
    expected = batchify(arrays["train_counted"], 2) if not columns else arrays["train_counted"][:, :2]
    assert task.train.counted is not None
    assert task.train.counted.tolist() == expected.tolist()
    assert task.valid.counted is None
    assert any(re.fullmatch(r"train: \d+ of \d+ losses count", note) for note in task.notes)


@pytest.mark.parametrize("columns", [(), (3,)])
def test_arrays_say_where_sequences_begin(path: Path, columns: tuple[int, ...]) -> None:
    arrays = sequences(*columns)
    arrays["train_resets"] = arrays["train_inputs"] == 2
    task = made(path, arrays, batch_size=2)
    expected = batchify(arrays["train_resets"], 2) if not columns else arrays["train_resets"][:, :2]
    assert task.train.resets is not None
    assert task.train.resets.tolist() == expected.tolist()
    assert task.train.counted is task.valid.resets is None
    assert f"train: {expected.sum()} sequences begin within the streams" in task.notes


def test_an_ignored_symbol_counts_nothing_and_is_none_of_the_symbols(path: Path) -> None:
    arrays = sequences(3)
    for name in ("train_targets", "valid_targets"):
        arrays[name] = np.where(arrays[name] == 4, -100, arrays[name])
    arrays["valid_counted"] = np.full((8, 3), 0.5)
    task = made(path, arrays, ignored=-100)
    assert task.input_size == 5
    assert task.train.counted is not None
    assert task.train.counted.tolist() == (arrays["train_targets"] != -100).tolist()
    assert task.valid.counted is not None
    assert task.valid.counted.tolist() == ((arrays["valid_targets"] != -100) * 0.5).tolist()
    assert not (task.train.targets < 0).any()
    assert task.test.losses(0, 6) == 6


NOTHING = dict.fromkeys(sequences(3))
TRAIN = sequences(3)["train_inputs"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"valid_targets": None},
            r"^path \(=.*mine.npz\) lacks the array valid_targets; it must hold valid_inputs and valid_targets for "
            r"each of train, valid, test, and holds test_inputs, test_targets, train_inputs, ",
        ),
        (NOTHING, r"lacks the array train_inputs; .* and holds nothing$"),
        (
            NOTHING | sequences(3, names=("X", "Y"), train_Y=None),
            "lacks the array train_Y; it must hold train_X and tr",
        ),
        (
            {"train_targets": TRAIN[:-1]},
            r"^path \(=.*\) has train_inputs of shape \(12, 3\) and train_targets of shape \(11, 3\); they must match$",
        ),
        ({"train_inputs": TRAIN * 1.0}, r"^train_inputs \(=.*float64.*\) in .*mine.npz must hold integers$"),
        ({"test_targets": TRAIN[:6] - 1}, r"^test_targets \(=-1\) in .* must hold no negative symbol$"),
        (
            {"train_counted": TRAIN[:-1]},
            r"has train_inputs of shape \(12, 3\) and train_counted of shape \(11, 3\); the",
        ),
        ({"test_counted": TRAIN[:6] * -0.5}, r"^test_counted \(=-0\.5\) in .*mine.npz must be finite and at least 0$"),
        ({"valid_counted": TRAIN[:8] * 0}, r"^path \(=.*\) counts no loss of the valid split$"),
        ({"test_counted": TRAIN[:6].astype("S1")}, r"^test_counted \(=\|S1\) in .* must hold booleans or weights$"),
        ({"train_resets": TRAIN}, r"^train_resets \(=int64\) in .* must hold booleans$"),
        (
            {"train_reset": TRAIN > 2, "notes": TRAIN},
            r"^path \(=.*\) holds train_reset, which would not be read: besides test_inputs and test_targets there may "
            r"be test_counted and test_resets$",
        ),
        ({"train_inputs": TRAIN[..., None]}, r"^train_inputs \(=\(12, 3, 1\)\) in .*mine.npz must be of shape \(T,\) "),
        ({"train_inputs": np.array(3)}, r"^train_inputs \(=\(\)\) in .* must be of shape \(T,\) or \(T, B\)$"),
        ({"train_inputs": TRAIN[:1]}, r"^train_inputs \(=\(1, 3\)\) in .* must have at least 2 steps$"),
        ({"train_inputs": TRAIN[:, :0]}, r"^train_inputs \(=\(12, 0\)\) in .* must have at least 2 steps$"),
        ({"train_inputs": TRAIN.astype(object)}, r"^train_inputs \(=object\) in .*mine.npz must hold integers$"),
    ],
)
def test_bad_arrays_are_refused_by_name_value_and_rule(path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(path, sequences(3, **changes))


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (sequences(3), {"symbols": 4}, r"^symbols \(=4\) must exceed the largest symbol in .*mine.npz \(=4\)$"),
        (sequences(3), {"batch_size": 4}, r"^batch_size \(=4\) must not exceed the 3 streams of the train arrays$"),
        (sequences(3), {"batch_size": 0}, r"^batch_size \(=0\) must be at least 1, or null$"),
        (sequences(), {}, r"^batch_size \(=null\) must be given: the train arrays are 1-D$"),
        (
            sequences(),
            {"batch_size": 4},
            r"^batch_size \(=4\) is too large for the 6 steps of the test arrays: at leas",
        ),
    ],
)
def test_options_that_do_not_fit_the_arrays_are_refused(path: Path, arrays: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(path, arrays, **options)


def damaged(whole: bytes) -> bytes:
    start = whole.index(b"train_inputs.npy") + 40
    return whole[:start] + bytes(20) + whole[start + 20 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"hello",
        lambda _: b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (0,), }".ljust(127) + b"\n",
        lambda whole: whole[: len(whole) // 2],
        damaged,
    ],
    ids=["empty", "text", "array", "half", "damaged"],
)
def test_what_is_not_an_npz_file_is_refused(path: Path, damage: Any) -> None:
    with pytest.raises(ConfigError, match=r"^path \(=.*mine.npz\) must be an .npz file; there is none$"):
        Arrays(str(path))
    np.savez_compressed(path, **{name: np.tile(array, (50, 1)) for name, array in sequences(3).items()})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=r"^path \(=.*mine.npz\) cannot be read as an .npz file: "):
        Arrays(str(path))


@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_the_released_copy_data_is_read_as_it_is(shared: Path, kind: str) -> None:
    path = shared / "data" / "released_copy" / f"released_copy_{kind}.npz"
    task = Arrays(str(path))
    assert [getattr(task, s).inputs.shape for s in SPLITS] == [(4000, 64), (1000, 64), (1000, 64)]
    assert task.input_size == 6
    with np.load(path) as archive:
        for split in SPLITS:
            assert np.array_equal(getattr(task, split).inputs.numpy(), archive[f"{split}_X"])
            assert np.array_equal(getattr(task, split).targets.numpy(), archive[f"{split}_Y"])
