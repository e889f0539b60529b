"""Text: predict the next word, character or byte."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atbptt.datasets.corpus import UNITS, UNKNOWN, Corpus, read_corpus
from atbptt.datasets.reading import checked, documents, require_files
from atbptt.datasets.task import SPLITS, SymbolTask, cut, cut_note
from atbptt.errors import listed, require, require_choice
from atbptt.system import require_memory
from atbptt.windows import Stream


class Text(SymbolTask):
    """Words, characters or bytes of text files; a split of N of them has N - 1 steps (input one, target the next).

    Words are separated by white space, and every line ends in `<eos>`. The vocabulary `words` is that of the training
    split, by first appearance; other words or characters become `<unk>`. For bytes it is all 256. Each split is cut in
    `batch_size` contiguous streams; the remainder is dropped.

    A folder in the place of a file holds documents: all files in it and below it, sorted by path, without hidden ones.
    They are one long text unless `resets`.

    Arguments:
        path: the folder of the three files; with `split` the file, or the folder of documents.
        batch_size: streams B.
        train_file, valid_file, test_file: their names in it; not with `split`.
        unit: `word`, `character` or `byte`.
        split: shares of the symbols for train, valid and test, in the order of the text, whose sum is 1. Documents are
            given to a split as a whole. None takes the three files.
        resets: each document begins in the model's first state, and its last symbol predicts nothing.
    """

    def __init__(
        self,
        path: str,
        batch_size: int,
        train_file: str = "train.txt",
        valid_file: str = "valid.txt",
        test_file: str = "test.txt",
        unit: str = "word",
        split: list[float] | None = None,
        resets: bool = False,
    ) -> None:
        require(batch_size >= 1, "batch_size", batch_size, "must be at least 1")
        require_choice("unit", unit, UNITS)
        names = (train_file, valid_file, test_file)
        if split is None:
            rule = "must be a folder; of one file, split gives the shares, as [0.9,0.05,0.05]"
            require(not os.path.isfile(path), "path", path, rule)
            require_files(Path(path), [name for name in names if not os.path.isdir(Path(path) / name)])
            places, training = [str(Path(path) / name) for name in names], train_file
        else:
            _check_shares(split)
            for part, name in zip(SPLITS, names, strict=True):
                own = f"{part}.txt"
                require(name == own, f"{part}_file", name, f"must be {own} with split, which reads all from path")
            require(os.path.exists(path), "path", path, "must be a file, or a folder of documents; there is none")
            rule = f"must be null for a folder with {listed(names)}, which would be divided anew as three documents"
            require(not all(os.path.exists(Path(path, name)) for name in names), "split", split, rule)
            places, training = [f"the {part} split of {path}" for part in SPLITS], "the train split"
        texts = _texts(path, names, split)
        files = [text if isinstance(text, list) else [text] for text in texts]
        _check_documents(path, texts, split, resets)
        if split is None:
            _check_apart(names, texts, files)

        def streams(corpus: Corpus) -> list[Stream]:
            given = zip(corpus.tokens.values(), corpus.documents.values(), places, strict=True)
            return [_stream(tokens, lengths if resets else None, batch_size, unit, of) for tokens, lengths, of in given]

        corpus = read_corpus(path, files, unit, split, streams)
        self.words = corpus.words
        self.input_size = self.output_size = len(corpus.words)
        self.train, self.valid, self.test = streams(corpus)
        self.notes = tuple(_notes(corpus, batch_size, unit, training, resets))

    @staticmethod
    def data_files(arguments: Mapping[str, Any]) -> list[Path | list[Path]]:
        names = [arguments[f"{split}_file"] for split in SPLITS]
        return _texts(arguments["path"], names, arguments["split"])


def _texts(path: str, names: Iterable[str], split: object) -> list[Path | list[Path]]:
    """The three files, or with `split` the one; for a folder the list of its documents."""
    places = [Path(path) / name for name in names] if split is None else [Path(path)]
    return [documents(place) if os.path.isdir(place) else checked([place])[0] for place in places]


def _check_shares(split: Sequence[float]) -> None:
    fine = len(split) == len(SPLITS) and min(split) > 0 and math.isclose(sum(split), 1, abs_tol=1e-6)
    rule = f"must be three numbers greater than 0 with sum 1, the shares of {listed(SPLITS)}, or null"
    require(fine, "split", split, rule)


def _check_documents(path: str, texts: Sequence[Path | list[Path]], split: object, resets: bool) -> None:
    found = [len(text) for text in texts if isinstance(text, list)]
    where = "train_file, valid_file or test_file" if split is None else "path"
    rule = f"needs documents that can begin anew, the files of a folder: {where} must be one"
    require(not resets or len(found) > 0, "resets", resets, rule)
    if split is not None and found:
        rule = f"must hold a document for each of {listed(SPLITS)}, and holds {found[0]}"
        require(found[0] >= len(SPLITS), "path", path, rule)


def _check_apart(names: Sequence[str], texts: Sequence[Path | list[Path]], files: Sequence[list[Path]]) -> None:
    """Raise a `ConfigError` if a split's folder holds another's file, as the whole folder, `train_file=.`, does."""
    if not any(isinstance(text, list) for text in texts):  # one file may be two splits
        return
    resolved = [{file.resolve() for file in each} for each in files]
    for part, name, own, text in zip(SPLITS, names, resolved, texts, strict=True):
        shared = sorted(file.name for other in resolved if other is not own for file in own & other)
        rule = f"must be a file, or a folder without files of other splits, and holds {listed(shared[:3])}"
        require(not (isinstance(text, list) and shared), f"{part}_file", name, rule)


def _stream(tokens: np.ndarray, lengths: list[int] | None, batch_size: int, unit: str, of: str) -> Stream:
    """The streams of a split: of documents of these lengths, which begin anew, or of one long text."""
    if lengths is None:
        pair = tokens[:-1], tokens[1:]  # views of one array, which may be memory-mapped
        parts = cut(pair, batch_size, f"{len(tokens):,} {unit}s of {of}", f", and one {unit} more")
        return Stream(*map(torch.from_numpy, parts))
    needed = len(tokens) * (2 * tokens.itemsize + 5)
    require_memory("resets", True, needed, f"with {len(tokens):,} {unit}s of {of}")
    first = np.zeros(len(tokens), dtype=bool)
    first[np.cumsum(lengths) - lengths] = True
    last = np.roll(first, -1)
    steps = len(tokens) - len(lengths)
    parts = cut((tokens[~last], tokens[~first], first[~last]), batch_size, f"{steps:,} steps of {of}")
    inputs, targets, resets = map(torch.from_numpy, parts)
    return Stream(inputs, targets, resets=resets)


def _notes(corpus: Corpus, batch_size: int, unit: str, training: str, resets: bool) -> Iterator[str]:
    yield f"vocabulary: {len(corpus.words):,} {unit}s"
    for split, lengths in corpus.documents.items():
        steps = sum(lengths) - (len(lengths) if resets else 1)
        yield cut_note(split, f"{unit}s to predict", steps, batch_size)
    counts = [len(lengths) for lengths in corpus.documents.values()]
    if max(counts) > 1:
        yield f"documents of {listed(SPLITS)}: {listed(f'{count:,}' for count in counts)}"
    for split, lengths in corpus.documents.items():
        if resets and 1 in lengths:
            yield f"{split}: documents of one {unit}, left out: {lengths.count(1):,}"
        if corpus.unknown[split]:
            yield f"{split}: {unit}s that {training} lacks, read as {UNKNOWN}: {corpus.unknown[split]:,}"
