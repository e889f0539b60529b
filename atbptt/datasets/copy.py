"""Copy: repeat a sequence as many steps later as it is long."""

from __future__ import annotations

import numpy as np

from atbptt.datasets.task import SymbolTask, generated, symbol_stream
from atbptt.errors import require
from atbptt.windows import Stream

BLANK, MARK = 0, 1


class Copy(SymbolTask):
    """A sequence of length m, beginning with the mark, then m blanks, while the target repeats the sequence
    m steps later; over and over, m drawn anew each time.

    Each stream is led in by its own random number of blanks, so that streams are out of phase, and each
    target equals its own stream's input m steps before.

    Arguments:
        min_length, max_length: m is uniform in min_length..max_length.
        symbols: V, the blank 0 and the start mark 1 among them.
        train_steps, valid_steps, test_steps: stream length T of each split.
        batch_size: streams B.
        seed: of the data.
    """

    def __init__(
        self,
        min_length: int,
        max_length: int,
        symbols: int,
        train_steps: int,
        valid_steps: int,
        test_steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        require(min_length >= 1, "min_length", min_length, "must be at least 1")
        require(
            max_length >= min_length,
            "max_length",
            max_length,
            f"must be at least min_length (={min_length})",
        )
        require(symbols >= 3, "symbols", symbols, "must be at least 3: the blank, the mark and one to copy")
        self.input_size = self.output_size = symbols

        def make(steps: int, generator: np.random.Generator) -> Stream:
            return symbol_stream(*copy_streams(min_length, max_length, symbols, steps, batch_size, generator))

        steps = (train_steps, valid_steps, test_steps)
        self.train, self.valid, self.test = generated("copy", steps, batch_size, seed, make, shortest=2 * max_length)


def copy_streams(
    min_length: int, max_length: int, symbols: int, steps: int, batch: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, each (T, B)."""
    inputs = np.full((steps + 2 * max_length, batch), BLANK)
    targets = np.full_like(inputs, BLANK)
    for b in range(batch):
        t = int(generator.integers(min_length + max_length))  # the lead-in: one mean period at most
        while t < steps:
            m = int(generator.integers(min_length, max_length + 1))
            sequence = generator.integers(MARK + 1, symbols, size=m)
            sequence[0] = MARK
            inputs[t : t + m, b] = sequence
            targets[t + m : t + 2 * m, b] = sequence
            t += 2 * m
    return inputs[:steps], targets[:steps]
