import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from atbptt.datasets import SPLITS, Text, corpus, reading
from atbptt.datasets.corpus import UNITS, Characters
from atbptt.errors import ConfigError, DataWarning
from tests.helpers.texts import read

Write = Callable[..., Path]


def test_the_text_is_read_once_and_mapped(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Text(str(write()), 2)
    monkeypatch.setattr(corpus, "text_lines", lambda file: pytest.fail(f"{file} is read again"))
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
    folder, lines = write(), corpus.text_lines

    def changing(file: Path) -> Any:
        yield from lines(file)
        if file.name == "train.txt":
            file.write_text("other words\n" * 9)

    monkeypatch.setattr(corpus, "text_lines", changing)
    with pytest.raises(ConfigError, match=r"^path \(=.*\) must not change while it is read: try again$"):
        Text(str(folder), 1)
    assert not cache.exists()


def test_the_cache_is_keyed_by_content(write: Write, cache: Path) -> None:
    folder = write()
    Text(str(folder), 2)
    entries = sorted(cache.iterdir())
    other = folder.parent / "elsewhere"
    other.mkdir()
    for split in SPLITS:
        (other / f"{split}.text").write_bytes((folder / f"{split}.txt").read_bytes())
    Text(str(other), 1, *(f"{split}.text" for split in SPLITS))
    assert sorted(cache.iterdir()) == entries
    changed = Text(str(write(train="the cat sat\na new line\n")), 2)
    assert "new" in changed.words
    assert len(list(cache.iterdir())) == 2 * len(entries)


def test_each_way_to_read_the_same_files_has_an_entry_of_its_own(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, fourth = ({name: f"{name} b c d e f g h i j k\n"} for name in "1234")
    one = write(first | second, third, fourth, name="one")
    two = write(first, second | third, fourth, name="two")
    names, whole = {f"{split}_file": split for split in SPLITS}, one / "train" / "1"
    ways: list[tuple[Path, dict[str, Any]]] = [
        *((folder, {**names, "unit": unit}) for folder in (one, two) for unit in UNITS),
        *((whole, {"split": [*split, 0.25], "unit": unit}) for split in ((0.5, 0.25), (0.25, 0.5)) for unit in UNITS),
    ]

    def found(cache: str, *ways: tuple[Path, dict[str, Any]]) -> list[Any]:
        monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / cache))
        tasks = [Text(str(path), 1, **given) for path, given in ways]
        return [(task.words, task.notes, *(read(task, split) for split in SPLITS)) for task in tasks]

    alone = [found(f"cache {number}", way)[0] for number, way in enumerate(ways)]
    for _ in range(2):
        assert found("shared", *ways) == alone
    cached = len([unit for unit in UNITS if unit != "byte"])
    assert len(list((tmp_path / "shared").glob("*.json"))) == 4 * cached


@given(texts=st.lists(st.text("abé😀\n ", min_size=1), min_size=1, max_size=4), block=st.integers(3, 9))
def test_characters_are_numbered_by_first_appearance(texts: list[str], block: int) -> None:
    """However the files are cut where they are read."""
    letters: dict[str, int] = {}
    numbers = [letters.setdefault(letter, len(letters)) for letter in "".join(texts)]
    reader, found = Characters(), []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        for text in texts:
            file = Path(folder) / "text"
            file.write_bytes(text.encode())
            found += [number for part in reader.parts(file) for number in part]
    assert (found, reader.vocabulary) == (numbers, list(letters))


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
    before = {split: read(first, split) for split in SPLITS}
    (path,) = cache.glob(f"*{suffix}")
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    with pytest.warns(DataWarning, match=r"^the cache .*\.int32 is damaged \(.*\); it is made anew$"):
        after = Text(str(write()), 1)
    for split in SPLITS:
        assert read(after, split) == before[split]
    assert path.read_bytes() == whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Text(str(write()), 1)


@pytest.mark.parametrize("suffix", [".int32", ".json"])
def test_half_a_cache_is_no_cache(write: Write, cache: Path, suffix: str) -> None:
    """As after a crash between the two files."""
    Text(str(write()), 1)
    next(cache.glob(f"*{suffix}")).unlink()
    assert read(Text(str(write()), 1), "test") == ["the", "mat", "<eos>", "sat", "<eos>"]


def test_without_a_cache_the_text_is_read_itself(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(DataWarning, match=r"cannot be written .*: every run reads the text again; set ATBPTT_CACHE"):
        task = Text(str(write()), 1)
    assert read(task, "test") == ["the", "mat", "<eos>", "sat", "<eos>"]


def test_penn_treebank_has_its_counts(shared: Path) -> None:
    task = Text(str(shared / "data" / "ptb"), 1, *(f"ptb.{split}.txt" for split in SPLITS))
    assert [getattr(task, split).length + 1 for split in SPLITS] == [929_589, 73_760, 82_430]
    assert len(task.words) == 10_000
    assert len(task.notes) == 4  # no unknown words
