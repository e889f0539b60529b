"""Text: predict the next word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atbptt.datasets.corpus import UNKNOWN, read_corpus
from atbptt.datasets.reading import require_files
from atbptt.datasets.task import SPLITS, SymbolTask, batchify_note, require_two_steps
from atbptt.errors import require
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
