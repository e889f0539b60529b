"""Copy: repeat a sequence as many steps later as it is long; also with sequences that get longer during training."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from atbptt.datasets.task import SymbolTask, generated, symbol_stream
from atbptt.errors import require
from atbptt.randomness import numpy_generator
from atbptt.windows import Stream

BLANK, MARK = 0, 1


@dataclass(eq=False)
class Copy(SymbolTask):
    """A sequence of m symbols, the mark first, then m blanks; the target is the input m steps before.

    This repeats with a new m each time. A random number of blanks before the first sequence puts the streams out of
    phase.
    """

    min_length: int  # m is uniform in min_length..max_length
    max_length: int
    symbols: int  # V, including the blank 0 and the mark 1
    train_steps: int  # stream length T of each split
    valid_steps: int
    test_steps: int
    batch_size: int  # streams B
    seed: int  # of the data

    KEPT = 16  # bytes of a step of a stream

    def __post_init__(self) -> None:
        low, high, symbols = self.min_length, self.max_length, self.symbols
        require(low >= 1, "min_length", low, "must be at least 1")
        require(high >= low, "max_length", high, f"must be at least min_length (={low})")
        require(symbols >= 3, "symbols", symbols, "must be at least 3: the blank, the mark and one to copy")
        self.input_size = self.output_size = symbols
        make = partial(_stream, low, high, symbols)
        self.train, self.valid, self.test = generated("copy", self, make, shortest=2 * high, kept=self.KEPT, making=32)


@dataclass(eq=False)
class GrowingCopy(Copy):
    """Copy whose longest m grows from pass to pass, so that ever longer windows are needed.

    In pass n = 0, 1, ... of training, m is uniform in `min_length` to `first_length` + (`max_length` - `first_length`)
    min(1, n / `growth`), rounded down. Each pass has new data. Validation and test have all m up to `max_length`.
    """

    first_length: int  # the largest m of the first pass
    growth: int  # passes until m has all lengths

    KEPT = 32  # between two passes, with the next one's

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.growth >= 1, "growth", self.growth, "must be at least 1 (passes)")
        within = self.min_length <= self.first_length <= self.max_length
        rule = f"must be within min_length..max_length (={self.min_length}..{self.max_length})"
        require(within, "first_length", self.first_length, rule)
        self.train = self.train_pass(0)

    def train_pass(self, number: int) -> Stream:
        longest = self.first_length + (self.max_length - self.first_length) * min(number, self.growth) // self.growth
        generator = numpy_generator("copy train", self.seed, number)
        return _stream(self.min_length, longest, self.symbols, self.train_steps, self.batch_size, generator)


def _stream(
    min_length: int, max_length: int, symbols: int, steps: int, batch: int, generator: np.random.Generator
) -> Stream:
    inputs = np.full((steps + 2 * max_length, batch), BLANK)
    targets = np.full_like(inputs, BLANK)
    for b in range(batch):
        t = int(generator.integers(min_length + max_length))  # first blanks: one mean period at most
        while t < steps:
            m = int(generator.integers(min_length, max_length + 1))
            sequence = generator.integers(MARK + 1, symbols, size=m)
            sequence[0] = MARK
            inputs[t : t + m, b] = sequence
            targets[t + m : t + 2 * m, b] = sequence
            t += 2 * m
    return symbol_stream(inputs[:steps], targets[:steps])
