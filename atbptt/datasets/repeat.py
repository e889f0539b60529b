"""Repeat: predict the next symbol of a base sequence that comes back again and again."""

from __future__ import annotations

import numpy as np

from atbptt.datasets.task import SymbolTask, generated, symbol_stream
from atbptt.errors import require
from atbptt.windows import Stream


class Repeat(SymbolTask):
    """Each stream has a random base sequence of its own, repeated from a random phase; the target is the
    next symbol, which is known from the symbol one period before it.

    Arguments:
        period: length of the base sequence in steps.
        symbols: V.
        shift: added to every symbol (modulo V) each time the sequence comes back; 0 repeats it unchanged.
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

        def make(steps: int, generator: np.random.Generator) -> Stream:
            return symbol_stream(*repeat_streams(period, symbols, shift, steps, batch_size, generator))

        steps = (train_steps, valid_steps, test_steps)
        self.train, self.valid, self.test = generated("repeat", steps, batch_size, seed, make, shortest=max(2, period))


def repeat_streams(
    period: int, symbols: int, shift: int, steps: int, batch: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, each (T, B): targets[t] is inputs[t + 1]."""
    base = generator.integers(symbols, size=(period, batch))
    phase = generator.integers(period, size=batch)
    at = phase + np.arange(steps + 1)[:, None]  # (T + 1, B)
    symbol = (np.take_along_axis(base, at % period, axis=0) + shift * (at // period)) % symbols
    return symbol[:-1], symbol[1:]
