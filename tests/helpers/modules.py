"""Modules as users of the library write them, with a loss and streams to probe them on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import atbptt

B, D, H, STEPS, BURN_IN, TAU = 3, 4, 5, 14, 2, 6


class Decoded(nn.Module):
    """One recurrent module and a decoder."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn, self.decoder, self.dropout = rnn, nn.Linear(H, 2), nn.Dropout(0.5)

    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden, state = self.rnn(inputs, state)
        return self.decoder(self.dropout(hidden)), state


class Levels(NamedTuple):
    lower: Any
    upper: Any


class Stacked(nn.Module):
    """Two cells of different kind; `pack` makes the model's state of theirs, `unpack` takes it apart."""

    def __init__(self, pack: Callable[..., Any], unpack: Callable[[Any], tuple[Any, Any]]) -> None:
        super().__init__()
        self.lower, self.upper, self.decoder = nn.LSTM(D, H), nn.GRU(H, H), nn.Linear(H, 2)
        self.pack, self.unpack = pack, unpack

    def forward(self, inputs: Tensor, state: Any) -> Any:
        lower, upper = self.unpack(state) if state else (None, None)
        hidden, lower = self.lower(inputs, lower)
        hidden, upper = self.upper(hidden, upper)
        return self.decoder(hidden), self.pack(lower=lower, upper=upper)


class MinGRU(nn.Module):
    """The minimal GRU, written by hand: gate and candidate see the input only."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.candidate, self.decoder = nn.Linear(D, H), nn.Linear(D, H), nn.Linear(H, 2)

    def forward(self, inputs: Tensor, state: Any) -> Any:
        state = inputs.new_zeros(inputs.shape[1], H) if state is None else state
        hidden = []
        for gate, candidate in zip(self.gate(inputs).sigmoid(), self.candidate(inputs), strict=True):
            state = (1 - gate) * state + gate * candidate
            hidden.append(state)
        return self.decoder(torch.stack(hidden)), state


class Begun(Decoded):
    """Takes no None; its first state is not zero."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM(D, H, 2))

    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden, cell = state
        return super().forward(inputs, (hidden, cell))

    def initial_state(self, batch: int) -> Any:
        return tuple(torch.full((2, batch, H), 0.3, dtype=torch.float64) for _ in range(2))


class CellByCell(Decoded):
    """A cell of torch in a loop."""

    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden = []
        for step in inputs:
            state = self.rnn(step, state)
            hidden.append(state[0] if isinstance(state, tuple) else state)
        return self.decoder(torch.stack(hidden)), state


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(dim=-1)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(STEPS, B, size, generator=generator, dtype=torch.float64) for size in (D, 2))  # type: ignore[return-value]


def layer_alone() -> tuple[nn.Module, Any]:
    """The model is a torch layer, and the loss has the decoder."""
    decoder = nn.Linear(H, 2).double()
    return nn.LSTM(D, H), lambda outputs, targets: squared_error(decoder(outputs), targets)


MODELS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "LSTM itself": layer_alone,
    "LSTM and decoder": lambda: (Decoded(nn.LSTM(D, H, 2)), squared_error),
    "two cells": lambda: (Stacked(lambda lower, upper: (lower, upper), lambda state: state), squared_error),
    "dict": lambda: (Stacked(dict, lambda state: (state["lower"], state["upper"])), squared_error),
    "NamedTuple": lambda: (Stacked(Levels, lambda state: (state.lower, state.upper)), squared_error),
    "minimal GRU": lambda: (MinGRU(), squared_error),
    "initial_state": lambda: (Begun(), squared_error),
    "GRUCell": lambda: (CellByCell(nn.GRUCell(D, H)), squared_error),
    "LSTMCell": lambda: (CellByCell(nn.LSTMCell(D, H)), squared_error),
}


def made(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model, loss = MODELS[name]()
    return model.double(), loss


def message_of(model: Any, loss: Any = squared_error, inputs: Any = None, targets: Any = None, **options: Any) -> str:
    """The one-line message of the ConfigError that `atbptt.probe` raises."""
    model = model.double() if isinstance(model, nn.Module) else model
    streams = [given if stored is None else stored for stored, given in zip((inputs, targets), data(), strict=True)]
    with pytest.raises(atbptt.ConfigError) as error:
        atbptt.probe(model, loss, *streams, **options)
    assert "\n" not in str(error.value)
    return str(error.value)
