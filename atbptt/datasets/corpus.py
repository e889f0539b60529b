"""The words, characters or bytes of a text as numbers, in a cache that runs share."""

import hashlib
import json
import sys
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atbptt.datasets.reading import file_blocks, text_blocks, text_lines
from atbptt.datasets.task import SPLITS
from atbptt.errors import DataWarning, described, require
from atbptt.system import cache_folder, file_digest, open_file, read_file, require_memory, write_atomically, write_text

END_OF_LINE, UNKNOWN = "<eos>", "<unk>"
FORMAT = 4  # of the cache's files; a new number leaves older files unread
NUMBERS, DESCRIPTION = ".int32", ".json"  # the two files of a cache entry
KIND = np.dtype("<i4")

# The documents of train, valid and test, or those of all that are to be split.
Texts = Sequence[Sequence[Path]]


@dataclass(frozen=True)
class Corpus:
    """The three splits of a text."""

    words: list[Any]  # the vocabulary, of texts or of bytes; a symbol's number is its index
    symbols: np.ndarray  # those of all documents by number, one after another, int32, or uint8 for bytes
    documents: dict[str, list[int]]  # how many symbols each document of each split has
    unknown: dict[str, int]  # how many symbols of each split became `<unk>`

    @property
    def tokens(self) -> dict[str, np.ndarray]:
        """The symbols of each split, views of all."""
        ends = np.cumsum([sum(self.documents[split]) for split in SPLITS])
        return dict(zip(SPLITS, np.split(self.symbols, ends[:-1]), strict=True))


class Words:
    """Words are what white space separates; every line ends in `<eos>`, and is a part."""

    kind = np.dtype(np.int32)
    memory = 1  # bytes needed for one of the files
    least = 2  # symbols of a part in which there is a word

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def vocabulary(self) -> list[str]:
        """By first appearance."""
        return list(self._numbers)

    def parts(self, file: Path) -> Iterator[memoryview]:
        """The symbols of a file, by number."""
        for line in text_lines(file):
            words = [*line.split(), END_OF_LINE]
            yield memoryview(array("i", [self._numbers.setdefault(word, len(self._numbers)) for word in words]))


class Characters:
    """Every Unicode character; lines end in a line feed where the file has a line end."""

    kind = np.dtype(np.int32)
    memory = 6
    least = 1

    def __init__(self) -> None:
        self.vocabulary: list[str] = []  # by first appearance
        self._numbers = np.full(sys.maxunicode + 1, -1, np.int32)

    def parts(self, file: Path) -> Iterator[memoryview]:
        for text in text_blocks(file):
            codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
            new, first = np.unique(codes[self._numbers[codes] < 0], return_index=True)
            for code in new[np.argsort(first)]:
                self._numbers[code] = len(self.vocabulary)
                self.vocabulary.append(chr(code))
            yield self._numbers[codes].data


class Bytes:
    """The bytes of the files as they are."""

    kind = np.dtype(np.uint8)
    memory = 2
    least = 1

    def __init__(self) -> None:
        self.vocabulary = [bytes([number]) for number in range(256)]

    def parts(self, file: Path) -> Iterator[bytes]:
        return file_blocks(file)


UNITS: dict[str, Callable[[], Words | Characters | Bytes]] = {"word": Words, "character": Characters, "byte": Bytes}


def read_corpus(
    path: str,
    texts: Texts,
    unit: str,
    shares: Sequence[float] | None,
    check: Callable[[Corpus], object],
) -> Corpus:
    """The corpus of a text, memory-mapped from the cache, in which it is stored first; bytes are read as they are.

    It is not stored if `check` raises an error.

    Arguments:
        path: where the text is, for errors.
        texts: the documents of train, valid and test; with `shares` those of all.
        unit: one of `UNITS`.
        shares: of the symbols for train, valid and test. Of several documents each is given to one of them as a whole.
    """
    if unit == "byte":
        return _numbered(path, texts, unit, shares)
    key = _key(texts, unit, shares)
    cached = cache_folder() / f"text-{key}"
    try:
        with suppress(OSError):  # not there, or not readable
            return _load(cached)
    except ValueError as error:
        message = f"the cache {cached.with_suffix(NUMBERS)} is damaged ({error}); it is made anew"
        warnings.warn(message, DataWarning, stacklevel=2)
    corpus = _numbered(path, texts, unit, shares)
    require(_key(texts, unit, shares) == key, "path", path, "must not change while it is read: try again")
    check(corpus)
    try:
        _store(corpus, cached)
        return _load(cached)
    except OSError as error:
        failure = f"the cache {cached.with_suffix(NUMBERS)} cannot be written ({described(error)})"
        hint = "every run reads the text again; set ATBPTT_CACHE to another folder"
        warnings.warn(f"{failure}: {hint}", DataWarning, stacklevel=2)
        return corpus


def _key(texts: Texts, unit: str, shares: Sequence[float] | None) -> str:
    content = [[file_digest(file) for file in text] for text in texts]
    return hashlib.sha256(json.dumps([FORMAT, unit, shares, content]).encode()).hexdigest()[:32]


def _numbered(path: str, texts: Texts, unit: str, shares: Sequence[float] | None) -> Corpus:
    words, symbols, lengths = _read(path, [file for text in texts for file in text], unit)
    if shares is None:
        counts = [len(text) for text in texts]
    else:
        lengths, counts = _divided(lengths, np.cumsum(shares)[:-1] / sum(shares) * len(symbols))
    ends = np.cumsum(counts)
    documents = {split: lengths[end - count : end] for split, count, end in zip(SPLITS, counts, ends, strict=True)}
    corpus = Corpus(words, symbols, documents, dict.fromkeys(SPLITS, 0))
    return corpus if unit == "byte" else _with_unknown(corpus)


def _read(path: str, files: Sequence[Path], unit: str) -> tuple[list[Any], np.ndarray, list[int]]:
    """The vocabulary of all files, their symbols, and how many each has."""
    reader = UNITS[unit]()
    needed = reader.memory * sum(file.stat().st_size for file in files)
    require_memory("path", path, needed, f"with unit (={unit})")
    found, ends = bytearray(), [0]
    for file in files:
        empty = True
        for part in reader.parts(file):
            empty = empty and len(part) < reader.least
            found += part
        require(not empty, "path", str(file), f"must hold text, and there is no {unit} in it")
        ends.append(len(found) // reader.kind.itemsize)
    return reader.vocabulary, np.frombuffer(found, reader.kind), np.diff(ends).tolist()


def _divided(lengths: list[int], wanted: np.ndarray) -> tuple[list[int], list[int]]:
    """The lengths of documents, and how many of them each split takes, to end as near as can be to where is wanted.

    A single document is cut in three.
    """
    if len(lengths) == 1:
        ends = [0, *np.rint(wanted).astype(int).tolist(), *lengths]
        return np.diff(ends).tolist(), [1, 1, 1]
    distances = np.abs(np.cumsum(lengths)[:, None] - wanted)  # (documents, 2)
    first = int(distances[:-2, 0].argmin()) + 1
    second = int(distances[first:-1, 1].argmin()) + 1
    return lengths, [first, second, len(lengths) - first - second]


def _with_unknown(corpus: Corpus) -> Corpus:
    """The corpus with the vocabulary of its training split, which comes first, and `<unk>` for all else."""
    tokens = corpus.tokens
    size = int(tokens["train"].max(initial=-1)) + 1
    words = corpus.words[:size]
    unknown = {split: int(np.count_nonzero(found >= size)) for split, found in tokens.items()}
    if any(unknown.values()):
        if UNKNOWN not in words:
            words.append(UNKNOWN)
        corpus.symbols[corpus.symbols >= size] = words.index(UNKNOWN)
    return Corpus(words, corpus.symbols, corpus.documents, unknown)


def _store(corpus: Corpus, cached: Path) -> None:
    numbers = corpus.symbols.astype(KIND, copy=False)
    description = {"words": corpus.words, "documents": corpus.documents, "unknown": corpus.unknown}
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
    return Corpus(description["words"], numbers, description["documents"], description["unknown"])


def _checksum(text: str, numbers: np.ndarray) -> str:
    digest = hashlib.sha256(text.encode())
    digest.update(numbers.data)
    return digest.hexdigest()
