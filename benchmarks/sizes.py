"""Networks and data sets for the measurements."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atbptt.datasets import SymbolTask
from atbptt.models import RecurrentNetwork
from atbptt.randomness import seed_global, torch_generator
from atbptt.windows import Stream

COPY_SYMBOLS = 6
PTB_SYMBOLS = 10_000


@dataclass(frozen=True)
class Size:
    """An LSTM on symbols.

    Attributes:
        layers, hidden, batch: L, H, B.
        symbols: V.
        tied: embed symbols in H numbers with the decoder's matrix; otherwise they are one-hot.
    """

    layers: int
    hidden: int
    batch: int
    symbols: int = COPY_SYMBOLS
    tied: bool = False

    @property
    def embedding(self) -> int | None:
        """Size of the embedding, or None for one-hot symbols."""
        return self.hidden if self.tied else None

    def network(self) -> RecurrentNetwork:
        """The project's network of this size, always with the same parameters."""
        seed_global("benchmarks, parameters")
        return RecurrentNetwork(
            self.symbols,
            self.symbols,
            layers=self.layers,
            hidden=self.hidden,
            embedding=self.embedding,
            tied=self.tied,
        )

    def __str__(self) -> str:
        return f"L{self.layers} H{self.hidden} B{self.batch}"


def random_symbols(steps: int, batch: int, symbols: int) -> Tensor:
    """Symbols (T, B), the same in every process."""
    return torch.randint(symbols, (steps, batch), generator=torch_generator("benchmarks, symbols", steps))


class RandomSymbols(SymbolTask):
    """Random symbols, each of which predicts the next.

    Arguments:
        symbols: V.
        steps: length T of the training stream; the other splits have two steps.
        batch_size: streams B.
    """

    def __init__(self, symbols: int, steps: int, batch_size: int) -> None:
        self.input_size = self.output_size = symbols
        self.train = _next_symbols(steps, batch_size, symbols)
        self.valid = _next_symbols(2, batch_size, symbols)
        self.test = _next_symbols(2, batch_size, symbols)


def _next_symbols(steps: int, batch: int, symbols: int) -> Stream:
    sequence = random_symbols(steps + 1, batch, symbols)
    return Stream(sequence[:-1], sequence[1:])
