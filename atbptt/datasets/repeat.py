"""Repeat: predict the next symbol of a base sequence that repeats."""

from __future__ import annotations

from functools import partial

import numpy as np

from atbptt.datasets.task import SymbolTask, generated, symbol_stream
from atbptt.errors import require
from atbptt.windows import Stream


class Repeat(SymbolTask):
    """Each stream repeats a random base sequence of its own, from a random phase; the target is the next symbol.

    Arguments:
        period: length of the base sequence in steps.
        symbols: V.
        shift: added to every symbol, modulo V, at each repetition.
        train_steps, valid_steps, test_steps: stream length T of each split.
        batch_size: streams B.
        seed: of the data.
    """

    def __init__(
        self,
        period: int,
        symbols: int,
        shift: int,
        train_steps: int,
        valid_steps: int,
        test_steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        require(period >= 1, "period", period, "must be at least 1")
        require(symbols >= 2, "symbols", symbols, "must be at least 2")
        require(0 <= shift < symbols, "shift", shift, f"must lie in 0..{symbols - 1}, below symbols")
        self.input_size = self.output_size = symbols
        steps = (train_steps, valid_steps, test_steps)
        make = partial(_stream, period, symbols, shift)
        self.train, self.valid, self.test = generated("repeat", steps, batch_size, seed, make, shortest=max(2, period))


def _stream(period: int, symbols: int, shift: int, steps: int, batch: int, generator: np.random.Generator) -> Stream:
    base = generator.integers(symbols, size=(period, batch))
    phase = generator.integers(period, size=batch)
    at = phase + np.arange(steps + 1)[:, None]  # (T + 1, B)
    symbol = (np.take_along_axis(base, at % period, axis=0) + shift * (at // period)) % symbols
    return symbol_stream(symbol[:-1], symbol[1:])
