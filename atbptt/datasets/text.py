"""Text: predict the next word."""

import hashlib
import json
import warnings
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atbptt.datasets.reading import checked, require_files, text_lines
from atbptt.datasets.task import SPLITS, SymbolTask, cut, cut_note
from atbptt.errors import DataWarning, described, require
from atbptt.system import cache_folder, file_digest, open_file, read_file, write_atomically, write_text
from atbptt.windows import Stream

END_OF_LINE, UNKNOWN = "<eos>", "<unk>"
FORMAT = 3  # of the cache's files; a new number leaves older files unread
NUMBERS, DESCRIPTION = ".int32", ".json"  # the two files of a cache entry
KIND = np.dtype("<i4")


class Text(SymbolTask):
    """Three text files of words separated by white space; every line ends in `<eos>`.

    The vocabulary is that of the training file, by first appearance; other words become `<unk>`. A split of N words
    has N - 1 steps (input a word, target the next), cut in `batch_size` contiguous streams; the remainder is dropped.

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
        corpus = read_corpus(files, lambda corpus: _streams(corpus, batch_size, files))
        self.words = corpus.words
        self.input_size = self.output_size = len(corpus.words)
        self.train, self.valid, self.test = _streams(corpus, batch_size, files)
        self.notes = (
            f"vocabulary: {len(corpus.words):,} words",
            *(cut_note(split, "words to predict", len(corpus.tokens[split]) - 1, batch_size) for split in SPLITS),
            *(
                f"{split}: words that {train_file} lacks, read as {UNKNOWN}: {count:,}"
                for split, count in corpus.unknown.items()
                if count
            ),
        )

    @staticmethod
    def data_files(arguments: Mapping[str, Any]) -> list[Path]:
        return checked(Path(arguments["path"]) / arguments[f"{split}_file"] for split in SPLITS)


@dataclass(frozen=True)
class Corpus:
    """The three splits of a text."""

    words: list[str]  # the vocabulary; a word's number is its index
    tokens: dict[str, np.ndarray]  # the words of each split by number, int32
    unknown: dict[str, int]  # how many words of each split became `<unk>`


def _streams(corpus: Corpus, batch_size: int, files: Sequence[Path]) -> list[Stream]:
    streams = []
    for tokens, file in zip((corpus.tokens[split] for split in SPLITS), files, strict=True):
        # Views of one array, which may be memory-mapped.
        parts = cut((tokens[:-1], tokens[1:]), batch_size, f"{len(tokens):,} words of {file}", ", and one word more")
        streams.append(Stream(*map(torch.from_numpy, parts)))
    return streams


def read_corpus(files: Sequence[Path], check: Callable[[Corpus], object] = lambda _: None) -> Corpus:
    """The corpus of a train, a valid and a test file, memory-mapped from the cache, in which it is stored first.

    It is not stored if `check` raises an error.
    """
    key = _key(files)
    cached = cache_folder() / f"text-{key}"
    try:
        with suppress(OSError):  # not there, or not readable
            return _load(cached)
    except ValueError as error:
        message = f"the cache {cached.with_suffix(NUMBERS)} is damaged ({error}); it is made anew"
        warnings.warn(message, DataWarning, stacklevel=2)
    corpus = _tokenized(files)
    require(_key(files) == key, "path", str(files[0].parent), "must not change while it is read: try again")
    check(corpus)
    try:
        _store(corpus, cached)
        return _load(cached)
    except OSError as error:
        failure = f"the cache {cached.with_suffix(NUMBERS)} cannot be written ({described(error)})"
        hint = "every run reads the text again; set ATBPTT_CACHE to another folder"
        warnings.warn(f"{failure}: {hint}", DataWarning, stacklevel=2)
        return corpus


def _key(files: Sequence[Path]) -> str:
    return hashlib.sha256(" ".join([str(FORMAT), *map(file_digest, files)]).encode()).hexdigest()[:32]


def _tokenized(files: Sequence[Path]) -> Corpus:
    numbers: dict[str, int] = {}
    tokens = {}
    for split, file in zip(SPLITS, files, strict=True):
        found = array("i")
        empty = True
        for line in text_lines(file):
            words = [*line.split(), END_OF_LINE]
            empty = empty and len(words) == 1
            if split == "train":
                found.extend([numbers.setdefault(word, len(numbers)) for word in words])
            else:
                found.extend([numbers.get(word, -1) for word in words])
        require(not empty, "path", str(file), "must hold text, and there is no word in it")
        tokens[split] = np.frombuffer(found, dtype=np.int32)
    unknown = {split: int((found < 0).sum()) for split, found in tokens.items()}
    if any(unknown.values()):
        number = np.int32(numbers.setdefault(UNKNOWN, len(numbers)))
        tokens = {split: np.where(found < 0, number, found) for split, found in tokens.items()}
    return Corpus(list(numbers), tokens, unknown)


def _store(corpus: Corpus, cached: Path) -> None:
    numbers = np.concatenate([corpus.tokens[split] for split in SPLITS]).astype(KIND)
    lengths = [len(corpus.tokens[split]) for split in SPLITS]
    description = {"words": corpus.words, "lengths": lengths, "unknown": corpus.unknown}
    text = json.dumps(description, ensure_ascii=False)
    cached.parent.mkdir(parents=True, exist_ok=True)
    # The description last: without it the numbers are ignored.
    write_atomically(cached.with_suffix(NUMBERS), lambda file: file.write(numbers.data))
    write_text(cached.with_suffix(DESCRIPTION), f"{_checksum(text, numbers)}\n{text}")


def _load(cached: Path) -> Corpus:
    checksum, _, text = read_file(cached.with_suffix(DESCRIPTION)).decode().partition("\n")
    with open_file(cached.with_suffix(NUMBERS)) as file:
        # Copy on write: torch wants an array that it could write to.
        numbers = np.memmap(file, dtype=KIND, mode="c")
    if checksum != _checksum(text, numbers):
        raise ValueError("its checksum is wrong")
    description: dict[str, Any] = json.loads(text)
    pieces = np.split(numbers, np.cumsum(description["lengths"])[:-1])
    return Corpus(description["words"], dict(zip(SPLITS, pieces, strict=True)), description["unknown"])


def _checksum(text: str, numbers: np.ndarray) -> str:
    digest = hashlib.sha256(text.encode())
    digest.update(numbers.data)
    return digest.hexdigest()
