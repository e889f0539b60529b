import re
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from atbptt.datasets import SPLITS, Text
from atbptt.errors import ConfigError
from tests.helpers.texts import read

Write = Callable[..., Path]
DOCUMENTS = {"train_file": "train", "valid_file": "valid", "test_file": "test"}


def steps(task: Text, split: str) -> list[tuple[Any, Any, bool]]:
    """Each step of a task of one stream: input, target, whether the state is the first one."""
    stream = getattr(task, split)
    assert stream.resets is not None
    inputs, targets = stream.read(0, 10**6)
    pairs = zip(inputs[:, 0], targets[:, 0], stream.resets[:, 0], strict=True)
    return [(task.words[one], task.words[two], bool(anew)) for one, two, anew in pairs]


def test_words_are_numbered_by_first_appearance_and_a_line_ends_in_eos(write: Write) -> None:
    task = Text(str(write()), 1)
    assert task.words == ["the", "cat", "sat", "<eos>", "on", "mat", "<unk>"]
    assert read(task, "train") == ["the", "cat", "sat", "<eos>", "<eos>", "on", "the", "mat", "<eos>"]
    assert task.input_size == task.output_size == 7


def test_words_that_training_lacks_become_unk_and_are_counted(write: Write) -> None:
    task = Text(str(write()), 2)
    assert task.notes == (
        "vocabulary: 7 words",
        "train: 8 words to predict in 2 streams of 4 steps, none dropped",
        "valid: 5 words to predict in 2 streams of 2 steps, the last 1 dropped",
        "test: 4 words to predict in 2 streams of 2 steps, none dropped",
        "valid: words that train.txt lacks, read as <unk>: 2",
    )
    assert read(Text(str(write()), 1), "valid") == ["the", "<unk>", "sat", "on", "<unk>", "<eos>"]
    task = Text(str(write(train="the <unk> sat on\n")), 1)
    assert task.words == ["the", "<unk>", "sat", "on", "<eos>"]
    assert read(task, "valid")[1] == "<unk>"
    assert "<unk>" not in Text(str(write(valid="sat the mat\n")), 1).words


def test_the_target_is_the_next_word_also_across_streams(write: Write) -> None:
    task = Text(str(write(train="a b c d e f g h\n")), 2)
    inputs, targets = task.train.read(0, 99)
    assert [[task.words[i] for i in column] for column in inputs.T] == [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert [[task.words[i] for i in column] for column in targets.T] == [["b", "c", "d", "e"], ["f", "g", "h", "<eos>"]]
    assert inputs.dtype == targets.dtype == torch.int64


def test_line_ends_of_other_systems_and_a_byte_order_mark_make_no_words(write: Write) -> None:
    task = Text(str(write(train=b"\xef\xbb\xbfthe cat\r\n\xc3\xa9t\xc3\xa9 sat\r\non mat")), 1)
    assert read(task, "train") == ["the", "cat", "<eos>", "été", "sat", "<eos>", "on", "mat", "<eos>"]


def test_every_character_is_a_symbol_and_a_line_end_a_line_feed(write: Write) -> None:
    folder = write(train="\ufeffé b\r\n\n😀 b", valid="bé\nx", test="b b\n")
    task = Text(str(folder), 1, unit="character")
    assert task.words == ["é", " ", "b", "\n", "😀", "<unk>"]
    assert read(task, "train") == [*"é b\n\n😀 b"]
    assert read(task, "valid") == ["b", "é", "\n", "<unk>"]
    assert read(task, "test") == [*"b b\n"]
    assert task.notes[0] == "vocabulary: 6 characters"
    assert task.notes[1] == "train: 7 characters to predict in 1 streams of 7 steps, none dropped"
    assert task.notes[-1] == "valid: characters that train.txt lacks, read as <unk>: 1"


def test_bytes_are_those_of_the_files(write: Write, cache: Path) -> None:
    content = b"\xef\xbb\xbf a\r\n\xff\x00\r"
    task = Text(str(write(train=content)), 1, unit="byte")
    assert b"".join(read(task, "train")) == content
    assert b"".join(read(task, "valid")) == b"the dog sat on it\n"
    assert task.words == [bytes([i]) for i in range(256)]
    assert task.input_size == task.output_size == 256
    assert task.train.inputs.dtype == torch.uint8
    assert task.train.read(0, 2)[0].dtype == torch.int64
    assert len(task.notes) == 4
    assert not cache.exists()


def test_one_file_is_cut_in_shares(tmp_path: Path) -> None:
    file = tmp_path / "whole.txt"
    file.write_text("a b a c\na b\nd a c\n")
    task = Text(str(file), 1, split=[0.5, 0.25, 0.25])
    assert task.words == ["a", "b", "c", "<eos>", "<unk>"]  # d is not in the first half
    assert read(task, "train") == ["a", "b", "a", "c", "<eos>", "a"]
    assert read(task, "valid") == ["b", "<eos>", "<unk>"]
    assert read(task, "test") == ["a", "c", "<eos>"]
    assert task.notes[-1] == "valid: words that the train split lacks, read as <unk>: 1"
    task = Text(str(file), 1, unit="byte", split=[0.2, 0.3, 0.5])
    assert [b"".join(read(task, split)) for split in SPLITS] == [b"a b ", b"a c\na", b" b\nd a c\n"]


def test_documents_are_one_long_text_after_another(write: Write) -> None:
    """In the order of their paths, those of folders in the folder too; hidden files are none."""
    folder = write(train={"b.txt": "d", ".hidden": "no", "a/2": "b\n", "a/10": "a", ".git/x": "no", "a.txt": "c\n"})
    task = Text(str(folder), 1, train_file="train", unit="character")
    assert read(task, "train") == [*"c\nab\nd"]
    assert task.train.resets is None
    assert "documents of train, valid, test: 4, 1, 1" in task.notes
    assert not any("left out" in note for note in task.notes)
    words = Text(str(folder), 1, train_file="train")
    assert read(words, "train") == [word for letter in "cabd" for word in (letter, "<eos>")]


def test_documents_begin_anew_and_predict_nothing_of_the_next(write: Write) -> None:
    folder = write(train={"a": "xyx", "b": "y", "c": "yy", "d": "x", "e": "xy"}, valid="yxy", test={"a": "yxx"})
    names = {**DOCUMENTS, "valid_file": "valid.txt"}
    task = Text(str(folder), 1, **names, unit="character", resets=True)
    assert steps(task, "train") == [("x", "y", True), ("y", "x", False), ("y", "y", True), ("x", "y", True)]
    assert task.notes == (
        "vocabulary: 2 characters",
        "train: 4 characters to predict in 1 streams of 4 steps, none dropped",
        "valid: 2 characters to predict in 1 streams of 2 steps, none dropped",
        "test: 2 characters to predict in 1 streams of 2 steps, none dropped",
        "documents of train, valid, test: 5, 1, 1",
        "train: documents of one character, left out: 2",
    )


LETTERS = st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=8)


@given(documents=LETTERS, streams=st.integers(1, 3))
def test_each_step_is_within_a_document(documents: list[bytes], streams: int) -> None:
    """Cut in streams, of which the remainder is dropped."""
    expected = [(*pair, not at) for each in documents for at, pair in enumerate(pairwise(each))]
    length = len(expected) // streams
    with tempfile.TemporaryDirectory() as folder:
        for split in SPLITS:
            (Path(folder) / split).mkdir()
            for number, content in enumerate(documents):
                (Path(folder) / split / f"{number}.bin").write_bytes(content)
        if length < 2:
            with pytest.raises(ConfigError, match=rf"is too large for the {len(expected)} steps of .*/train"):
                Text(folder, streams, **DOCUMENTS, unit="byte", resets=True)
            return
        stream = Text(folder, streams, **DOCUMENTS, unit="byte", resets=True).valid
    assert stream.resets is not None
    found = torch.stack([*stream.read(0, length), stream.resets], dim=-1)  # (T, B, 3)
    assert [tuple(step) for step in found.transpose(0, 1).flatten(0, 1).tolist()] == expected[: length * streams]


@pytest.mark.parametrize(
    ("lengths", "shares", "counts"),
    [
        ([19, 8, 16, 5, 6, 6], [0.7, 0.2, 0.1], [3, 2, 1]),
        ([3, 3, 3, 3, 96], [0.9, 0.05, 0.05], [3, 1, 1]),  # no document is cut, and each split has one
        ([96, 3, 3, 3, 3], [0.1, 0.1, 0.8], [1, 1, 3]),
    ],
)
def test_documents_are_divided_as_near_to_the_shares_as_they_can(
    tmp_path: Path, lengths: list[int], shares: list[float], counts: list[int]
) -> None:
    for number, length in enumerate(lengths):
        (tmp_path / f"{number}.txt").write_bytes(bytes([number] * length))
    task = Text(str(tmp_path), 1, unit="byte", split=shares)
    assert f"documents of train, valid, test: {', '.join(map(str, counts))}" in task.notes
    assert set(read(task, "train")) == {bytes([number]) for number in range(counts[0])}
    assert task.test.length == sum(lengths[-counts[-1] :]) - 1


Given = dict[str, Any]
OF_FILES = [
    ({"valid": ""}, {}, r"^path \(=.*valid.txt\) must hold text, and there is no word in it$"),
    ({"test": "\n \n\t\n"}, {}, r"^path \(=.*test.txt\) must hold text, and there is no word in it$"),
    ({"test": ""}, {"unit": "character"}, r"^path \(=.*test.txt\) must hold text, and there is no character"),
    ({"train": ""}, {"unit": "byte"}, r"^path \(=.*train.txt\) must hold text, and there is no byte in it$"),
    ({}, {"batch_size": 0}, r"^batch_size \(=0\) must be at least 1$"),
    ({}, {"batch_size": 3}, r"^batch_size \(=3\) is too large for the 6 words of .*valid.txt: at least 2 steps a"),
    ({}, {"unit": "byte", "batch_size": 9}, r"for the 18 bytes of .*valid.txt: at least 2 .*, and one byte more$"),
    ({}, {"split": [0.5, 0.25, 0.25]}, r"^split \(=.*\) must be null for a folder with train.txt, valid.txt, test.txt"),
    ({}, {"unit": "line"}, r"^unit \(=line\) must be one of word, character, byte"),
    ({}, {"resets": True}, r"^resets \(=true\) needs documents .*: train_file, valid_file or test_file must be one$"),
    *(
        (
            {},
            {"test_file": name},
            rf"^test_file \(={name}\) must be a file, or a folder without files of other splits, and",
        )
        for name in ("", ".")
    ),
    *(
        ({}, {"split": split}, rf"^split \(={re.escape(str(split))}\) must be three numbers greater than 0 with sum 1")
        for split in ([], [0.5, 0.5], [0.5, 0.5, 0], [0.9, 0.2, -0.1], [0.5, 0.3, 0.1], [0.4, 0.2, 0.2, 0.2])
    ),
]


@pytest.mark.parametrize(("files", "given", "message"), OF_FILES)
def test_data_that_does_not_fit_is_refused(write: Write, files: Given, given: Given, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Text(str(write(**files)), **{"batch_size": 1, **given})


THIRDS = [1 / 3, 1 / 3, 1 / 3]
TWO, THREE = ({f"{i}": "abc" for i in range(n)} for n in (2, 3))
OF_DOCUMENTS = [
    (TWO, {}, r"^path \(=.*train\) must hold a document for each of train, valid, test, and holds 2$"),
    ({**THREE, "b": ""}, {"unit": "character"}, r"^path \(=.*train/b\) must hold text, and there is no character"),
    ({**THREE, "b": b"a\n\xff"}, {}, r"^path \(=.*train\) cannot be read: line 2 of b is not UTF-8: byte 0xff at "),
    ({**THREE, "b": b"a\n\xff"}, {"unit": "character"}, r"cannot be read: line 2 of b is not UTF-8: byte 0xff at "),
    ({**THREE, "b": "a\rb\n"}, {"unit": "character"}, r"cannot be read: line 1 of b has a carriage return within it"),
    (THREE, {"batch_size": 2}, r"^batch_size \(=2\) is too large for the 2 words of the train split of .*train: "),
    (THREE, {"batch_size": 2, "resets": True}, r"too large for the 1 steps of the train split of .*train: at least 2"),
]


@pytest.mark.parametrize(("documents", "given", "message"), OF_DOCUMENTS)
def test_documents_that_do_not_fit_are_refused(write: Write, documents: Given, given: Given, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Text(str(write(train=documents) / "train"), **{"batch_size": 1, "split": THIRDS, **given})


def test_one_file_needs_shares_and_no_names(write: Write) -> None:
    file = str(write() / "train.txt")
    with pytest.raises(ConfigError, match=r"^path \(=.*train.txt\) must be a folder; of one file, split gives the sha"):
        Text(file, 1)
    with pytest.raises(ConfigError, match=r"^valid_file \(=a\) must be valid.txt with split, which reads all"):
        Text(file, 1, split=THIRDS, valid_file="a")


def test_one_file_cannot_begin_anew(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"^resets \(=true\) needs documents .* of a folder: path must be one$"):
        Text(str(write() / "train.txt"), 1, split=THIRDS, resets=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unit": "character"}, r"^path \(=.*\) with unit \(=character\) needs about 1.8 kB of memory"),
        ({"unit": "byte", "resets": True}, r"^resets \(=true\) with 200 bytes of the train split of .* about 1.4 kB"),
    ],
)
def test_what_needs_too_much_memory_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, given: Given, message: str
) -> None:
    monkeypatch.setattr("atbptt.system.resources.free_memory", lambda: 1000)
    folder = write(train={"1": "a" * 200, "2": "b" * 50, "3": "c" * 50}) / "train"
    assert Text(str(folder), 1, unit="byte", split=THIRDS)
    with pytest.raises(ConfigError, match=message):
        Text(str(folder), 1, split=THIRDS, **given)


def test_a_text_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^path \(=.*none\) must be a file, or a folder of documents; there"):
        Text(str(tmp_path / "none"), 1, split=THIRDS)


def test_where_a_published_data_set_is_missing_the_command_that_gets_it_is_reported(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^path \(=data/wikitext-2\) .*; python -m atbptt.datasets fetch wikitext2 gets it$"
    ):
        Text("data/wikitext-2", 1)
    hint = re.escape(f"; python -m atbptt.datasets fetch ptb --to {tmp_path} gets it")
    with pytest.raises(ConfigError, match=f"{hint}$"):
        Text(str(tmp_path / "ptb"), 1, *(f"ptb.{split}.txt" for split in SPLITS))
    with pytest.raises(ConfigError, match=r"must be a folder$"):  # ptb has no such files
        Text(str(tmp_path / "ptb"), 1)
