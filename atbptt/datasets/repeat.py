"""Repeat: predict the next symbol of a base sequence that repeats."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from atbptt.datasets.task import SymbolTask, generated, symbol_stream
from atbptt.errors import require
from atbptt.windows import Stream


@dataclass(eq=False)
class Repeat(SymbolTask):
    """Each stream repeats a random base sequence of its own, from a random phase; the target is the next symbol."""

    period: int  # length of the base sequence in steps
    symbols: int  # V
    shift: int  # added to every symbol, modulo V, at each repetition
    train_steps: int  # stream length T of each split
    valid_steps: int
    test_steps: int
    batch_size: int  # streams B
    seed: int  # of the data

    def __post_init__(self) -> None:
        period, symbols, shift = self.period, self.symbols, self.shift
        require(period >= 1, "period", period, "must be at least 1")
        require(symbols >= 2, "symbols", symbols, "must be at least 2")
        require(0 <= shift < symbols, "shift", shift, f"must lie in 0..{symbols - 1}, below symbols")
        self.input_size = self.output_size = symbols
        make = partial(_stream, period, symbols, shift)
        shortest = max(2, period)
        self.train, self.valid, self.test = generated("repeat", self, make, shortest=shortest, kept=16, making=40)


def _stream(period: int, symbols: int, shift: int, steps: int, batch: int, generator: np.random.Generator) -> Stream:
    base = generator.integers(symbols, size=(period, batch))
    phase = generator.integers(period, size=batch)
    at = phase + np.arange(steps + 1)[:, None]  # (T + 1, B)
    symbol = (np.take_along_axis(base, at % period, axis=0) + shift * (at // period)) % symbols
    return symbol_stream(symbol[:-1], symbol[1:])
