"""Text: predict the next word."""

from __future__ import annotations

import hashlib
import json
import warnings
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atbptt.datasets.reading import require_files, text_lines
from atbptt.datasets.task import SPLITS, SymbolTask, batchify_note, require_two_steps
from atbptt.errors import DataWarning, described, require
from atbptt.system import cache_folder, file_digest, write_atomically, write_text
from atbptt.windows import Stream, batchify


class Text(SymbolTask):
    """Three text files: words are what white space separates, and every line ends in `<eos>`.

    The vocabulary is the training file's, by first appearance; words that it lacks become `<unk>`. A split of N
    words has N - 1 steps (input a word, target the next), cut in `batch_size` contiguous streams; the remainder,
    fewer than `batch_size` steps, is dropped, and `notes` says how many.

    Arguments:
        path: the folder of the files.
        batch_size: streams B.
        train_file, valid_file, test_file: their names in it.
    """

    def __init__(
        self,
        path: str,
        batch_size: int,
        train_file: str = "train.txt",
        valid_file: str = "valid.txt",
        test_file: str = "test.txt",
    ) -> None:
        require(batch_size >= 1, "batch_size", batch_size, "must be at least 1")
        names = (train_file, valid_file, test_file)
        require_files(Path(path), names)
        files = [Path(path) / name for name in names]
        corpus = read_corpus(files)
        self.words = corpus.words
        self.input_size = self.output_size = len(corpus.words)
        self.train, self.valid, self.test = (
            _stream(corpus.tokens[split], batch_size, file) for split, file in zip(SPLITS, files, strict=True)
        )
        self.notes = (
            f"vocabulary: {len(corpus.words):,} words",
            *(batchify_note(split, "words to predict", len(corpus.tokens[split]) - 1, batch_size) for split in SPLITS),
            *(
                f"{split}: words that {train_file} lacks, read as {UNKNOWN}: {count:,}"
                for split, count in corpus.unknown.items()
                if count
            ),
        )

    @staticmethod
    def data_files(arguments: Mapping[str, Any]) -> list[Path]:
        """The files that decide what the data is."""
        return [Path(arguments["path"]) / arguments[f"{split}_file"] for split in SPLITS]


def _stream(tokens: np.ndarray, batch_size: int, file: Path) -> Stream:
    require_two_steps(batch_size, len(tokens) - 1, f"{len(tokens):,} words of {file}", ", and one word more")
    # Views of one array, which may be memory-mapped.
    return Stream(*(torch.from_numpy(batchify(part, batch_size)) for part in (tokens[:-1], tokens[1:])))


END_OF_LINE, UNKNOWN = "<eos>", "<unk>"
FORMAT = 2  # of the cache's files; another number leaves those of before alone
NUMBERS, DESCRIPTION = ".int32", ".json"  # an entry's two files
KIND = np.dtype("<i4")


@dataclass(frozen=True)
class Corpus:
    """The three splits of a text, in the words of its training split.

    Attributes:
        words: the vocabulary, by first appearance; the place of a word is its number.
        tokens: the words of each split by number, int32.
        unknown: how many words of each split became `<unk>`, since the training split lacks them.
    """

    words: list[str]
    tokens: dict[str, np.ndarray]
    unknown: dict[str, int]


def read_corpus(files: Sequence[Path]) -> Corpus:
    """The corpus of a train, a valid and a test file, from the cache where it is there and whole.

    Words are what white space separates; every line ends in `<eos>`. Of processes that begin at once each may
    read the text, and all write the same bytes.

    Warns:
        DataWarning: the cache was damaged and has been made anew, or cannot be written.

    Raises:
        ConfigError: a file has no word, or is not UTF-8.
    """
    key = _key(files)
    cached = cache_folder() / f"text-{key}"
    try:
        with suppress(OSError):  # not there, or not for this user to read
            return _load(cached)
    except ValueError as error:
        message = f"the cache {cached.with_suffix(NUMBERS)} is damaged ({error}); it is made anew"
        warnings.warn(message, DataWarning, stacklevel=2)
    corpus = _tokenized(files)
    require(_key(files) == key, "path", str(files[0].parent), "must not change while it is read: try again")
    try:
        _store(corpus, cached)
        return _load(cached)
    except OSError as error:
        message = (
            f"the cache {cached.with_suffix(NUMBERS)} cannot be written ({described(error)}): every run reads the text"
        )
        warnings.warn(f"{message} itself; ATBPTT_CACHE names another folder", DataWarning, stacklevel=2)
        return corpus


def _key(files: Sequence[Path]) -> str:
    return hashlib.sha256(" ".join([str(FORMAT), *map(file_digest, files)]).encode()).hexdigest()[:32]


def _tokenized(files: Sequence[Path]) -> Corpus:
    numbers: dict[str, int] = {}
    tokens = {}
    unknown = {}
    for split, file in zip(SPLITS, files, strict=True):
        found = array("i")
        missing = 0
        for line in _lines(file):
            if split == "train":
                found.extend([numbers.setdefault(word, len(numbers)) for word in line])
            else:
                line_numbers = [numbers.get(word, -1) for word in line]
                missing += line_numbers.count(-1)
                found.extend(line_numbers)
        tokens[split], unknown[split] = np.frombuffer(found, dtype=np.int32), missing
    if any(unknown.values()):
        number = numbers.setdefault(UNKNOWN, len(numbers))
        tokens = {split: np.where(found < 0, np.int32(number), found) for split, found in tokens.items()}
    return Corpus(list(numbers), tokens, unknown)


def _lines(file: Path) -> Iterator[list[str]]:
    """The words of each line, `<eos>` last."""
    empty = True
    for line in text_lines(file):
        words = line.split()
        empty = empty and not words
        words.append(END_OF_LINE)
        yield words
    require(not empty, "path", str(file), "must hold text, and there is no word in it")


def _store(corpus: Corpus, cached: Path) -> None:
    """Write the numbers, then the description, without which the numbers are as good as absent."""
    numbers = np.concatenate([corpus.tokens[split] for split in SPLITS]).astype(KIND).tobytes()
    description = {
        "words": corpus.words,
        "lengths": [len(corpus.tokens[split]) for split in SPLITS],
        "unknown": corpus.unknown,
        "sha256": hashlib.sha256(numbers).hexdigest(),
    }
    text = json.dumps(description, ensure_ascii=False)
    cached.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cached.with_suffix(NUMBERS), lambda file: file.write(numbers))
    write_text(cached.with_suffix(DESCRIPTION), f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def _load(cached: Path) -> Corpus:
    digest, _, text = cached.with_suffix(DESCRIPTION).read_text(encoding="utf-8").partition("\n")
    if digest != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError("its description has changed")
    description: dict[str, Any] = json.loads(text)
    # Copy on write, since torch asks for an array that it could write to; nobody does. No header is trusted.
    numbers = np.memmap(cached.with_suffix(NUMBERS), dtype=KIND, mode="c")
    if hashlib.sha256(numbers.data).hexdigest() != description["sha256"]:
        raise ValueError("its numbers have changed")
    pieces = np.split(numbers, np.cumsum(description["lengths"])[:-1])
    return Corpus(description["words"], dict(zip(SPLITS, pieces, strict=True)), description["unknown"])
