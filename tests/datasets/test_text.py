import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbptt.datasets import SPLITS, Text, text
from atbptt.datasets.text import read_corpus
from atbptt.errors import ConfigError, DataWarning

Write = Callable[..., Path]
TRAIN = "the cat sat\n\n  on the mat \n"
VALID = "the dog sat on it\n"
TEST = "the mat\nsat\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ATBPTT_CACHE", str(folder))
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """The three files in a folder."""

    def make(train: str | bytes = TRAIN, valid: str | bytes = VALID, test: str | bytes = TEST) -> Path:
        for split, content in zip(SPLITS, (train, valid, test), strict=True):
            (tmp_path / f"{split}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return make


def words(task: Text, split: str) -> list[str]:
    """All that a task of one stream reads: its inputs and the last target."""
    inputs, targets = getattr(task, split).read(0, 10**6)
    return [task.words[i] for i in [*inputs[:, 0], targets[-1, 0]]]


def test_words_are_numbered_by_first_appearance_and_a_line_ends_in_eos(write: Write) -> None:
    task = Text(str(write()), 1)
    assert task.words == ["the", "cat", "sat", "<eos>", "on", "mat", "<unk>"]
    assert words(task, "train") == ["the", "cat", "sat", "<eos>", "<eos>", "on", "the", "mat", "<eos>"]
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
    assert words(Text(str(write()), 1), "valid") == ["the", "<unk>", "sat", "on", "<unk>", "<eos>"]
    task = Text(str(write(train="the <unk> sat on\n")), 1)
    assert task.words == ["the", "<unk>", "sat", "on", "<eos>"]
    assert words(task, "valid")[1] == "<unk>"
    assert "<unk>" not in Text(str(write(valid="sat the mat\n")), 1).words


def test_the_target_is_the_next_word_also_across_streams(write: Write) -> None:
    task = Text(str(write(train="a b c d e f g h\n")), 2)
    inputs, targets = task.train.read(0, 99)
    assert [[task.words[i] for i in column] for column in inputs.T] == [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert [[task.words[i] for i in column] for column in targets.T] == [["b", "c", "d", "e"], ["f", "g", "h", "<eos>"]]
    assert inputs.dtype == targets.dtype == torch.int64


def test_line_ends_of_other_systems_and_a_byte_order_mark_make_no_words(write: Write) -> None:
    task = Text(str(write(train=b"\xef\xbb\xbfthe cat\r\n\xc3\xa9t\xc3\xa9 sat\r\non mat")), 1)
    assert words(task, "train") == ["the", "cat", "<eos>", "été", "sat", "<eos>", "on", "mat", "<eos>"]


def test_the_text_is_read_once_and_mapped(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Text(str(write()), 2)
    monkeypatch.setattr(text, "text_lines", lambda file: pytest.fail(f"{file} is read again"))
    mapped: list[np.memmap] = []
    open_map = np.memmap
    monkeypatch.setattr(np, "memmap", lambda *given, **options: mapped.append(open_map(*given, **options)) or mapped[0])
    second = Text(str(write()), 2)
    assert (second.words, second.notes) == (first.words, first.notes)
    for split in SPLITS:
        one, two = getattr(first, split), getattr(second, split)
        for part in ("inputs", "targets"):
            assert torch.equal(getattr(one, part), getattr(two, part))
            assert np.shares_memory(getattr(two, part).numpy(), mapped[0])


def test_a_text_that_changes_is_refused(write: Write, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the words of the new one would be found for the old one, for good."""
    folder, lines = write(), text.text_lines

    def changing(file: Path) -> Any:
        yield from lines(file)
        if file.name == "train.txt":
            file.write_text("other words\n" * 9)

    monkeypatch.setattr(text, "text_lines", changing)
    with pytest.raises(ConfigError, match=r"^path \(=.*\) must not change while it is read: try again$"):
        Text(str(folder), 1)
    assert not cache.exists()


def test_the_cache_is_keyed_by_content(write: Write, cache: Path, tmp_path: Path) -> None:
    Text(str(write()), 2)
    entries = sorted(cache.iterdir())
    other = tmp_path / "elsewhere"
    other.mkdir()
    for split in SPLITS:
        (other / f"{split}.text").write_bytes((tmp_path / f"{split}.txt").read_bytes())
    Text(str(other), 1, *(f"{split}.text" for split in SPLITS))
    assert sorted(cache.iterdir()) == entries
    changed = Text(str(write(train=TRAIN + "a new line\n")), 2)
    assert "new" in changed.words
    assert len(list(cache.iterdir())) == 2 * len(entries)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "a byte changed": lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    "something appended": lambda content: content + b"1234",
    "foreign": lambda _: b"\xff\x00 something else",
}


@pytest.mark.parametrize("suffix", [".int32", ".json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew(write: Write, cache: Path, damage: str, suffix: str) -> None:
    first = Text(str(write()), 1)
    before = {split: words(first, split) for split in SPLITS}
    (path,) = cache.glob(f"*{suffix}")
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    with pytest.warns(DataWarning, match=r"^the cache .*\.int32 is damaged \(.*\); it is made anew$"):
        after = Text(str(write()), 1)
    for split in SPLITS:
        assert words(after, split) == before[split]
    assert path.read_bytes() == whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Text(str(write()), 1)


@pytest.mark.parametrize("suffix", [".int32", ".json"])
def test_half_a_cache_is_no_cache(write: Write, cache: Path, suffix: str) -> None:
    """As after a crash between the two files."""
    Text(str(write()), 1)
    next(cache.glob(f"*{suffix}")).unlink()
    assert words(Text(str(write()), 1), "test") == ["the", "mat", "<eos>", "sat", "<eos>"]


def test_without_a_cache_the_text_is_read_itself(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(DataWarning, match=r"cannot be written .*: every run reads the text again; set ATBPTT_CACHE"):
        task = Text(str(write()), 1)
    assert words(task, "test") == ["the", "mat", "<eos>", "sat", "<eos>"]


@pytest.mark.parametrize(
    ("files", "batch_size", "message"),
    [
        ({"valid": ""}, 1, r"^path \(=.*valid.txt\) must hold text, and there is no word in it$"),
        ({"test": "\n \n\t\n"}, 1, r"^path \(=.*test.txt\) must hold text, and there is no word in it$"),
        ({}, 0, r"^batch_size \(=0\) must be at least 1$"),
        ({}, 3, r"^batch_size \(=3\) is too large for the 6 words of .*valid.txt: at least 2 steps a stream, and one"),
    ],
)
def test_data_that_does_not_fit_is_refused(write: Write, files: dict[str, str], batch_size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Text(str(write(**files)), batch_size)


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


def test_penn_treebank_has_its_counts(shared: Path) -> None:
    files = [shared / "data" / "ptb" / f"ptb.{split}.txt" for split in SPLITS]
    found = read_corpus(files)
    assert [len(found.tokens[split]) for split in SPLITS] == [929_589, 73_760, 82_430]
    assert len(found.words) == 10_000
    assert set(found.unknown.values()) == {0}
