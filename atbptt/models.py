"""Recurrent models, and the protocol that the training loop asks of any model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError, require, require_choice
from atbptt.states import State

CELLS: dict[str, tuple[Callable[..., nn.RNNBase], dict[str, str]]] = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}


class Recurrent(Protocol):
    """What the training loop and the probes ask of a model: any `nn.Module` with these two methods.

    Time is the first axis. A model made from YAML is called with `input_size` and `output_size` of its data
    set besides its own arguments, and draws its initial parameters from torch's global generator, which
    is seeded with `init`.
    """

    def __call__(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Map inputs (T, B, ...) and the state before them to outputs (T, B, V) and the state after."""

    def initial_state(self, batch: int) -> State:
        """The zero state of `batch` streams: tensors of shape (L, B, H) or (B, H)."""


class RecurrentNetwork(nn.Module):
    """Symbols or real-valued inputs, recurrent layers, a linear decoder.

    Arguments:
        input_size: number of symbols V (integer inputs) or features D (real-valued inputs).
        output_size: number of outputs per step.
        cell: `lstm`, `gru`, `rnn_tanh` or `rnn_relu`.
        layers: recurrent layers L.
        hidden: hidden size H of each layer.
        embedding: size of a learned embedding of the symbols; null feeds them one-hot.
        dropout: probability, on the inputs of each recurrent layer and of the decoder.

    All matrices start uniform in +-sqrt(3 / max(fan)), biases at zero (the published initialisation).
    """

    state_names: tuple[str, ...]

    def __init__(
        self,
        input_size: int,
        output_size: int,
        cell: str = "lstm",
        layers: int = 1,
        hidden: int = 50,
        embedding: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_choice("cell", cell, CELLS)
        require(layers >= 1, "layers", layers, "must be at least 1")
        require(hidden >= 1, "hidden", hidden, "must be at least 1")
        require(embedding is None or embedding >= 1, "embedding", embedding, "must be at least 1, or null")
        require(0 <= dropout < 1, "dropout", dropout, "must be at least 0 and below 1")
        kind, options = CELLS[cell]
        self.input_size = input_size
        self.embedding = None if embedding is None else nn.Embedding(input_size, embedding)
        self.rnn = kind(
            input_size if embedding is None else embedding,
            hidden,
            layers,
            dropout=dropout if layers > 1 else 0.0,  # torch applies it between layers only
            **options,
        )
        self.decoder = nn.Linear(hidden, output_size)
        self.dropout = nn.Dropout(dropout)
        self.state_names = ("hidden", "cell") if cell == "lstm" else ("hidden",)
        published_initialization(self)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Inputs (T, B) of symbols or (T, B, D) of reals to outputs (T, B, output_size)."""
        if inputs.is_floating_point():
            if self.embedding is not None:
                size = self.embedding.embedding_dim
                raise ConfigError("embedding", f"(={size}) must be null: the inputs are real numbers, not symbols")
            features = inputs
        elif self.embedding is not None:
            features = self.embedding(inputs)
        else:
            features = nn.functional.one_hot(inputs, self.input_size).to(self.decoder.weight.dtype)
        hidden, state = self.rnn(self.dropout(features), state)  # (T, B, H)
        return self.decoder(self.dropout(hidden)), state

    def initial_state(self, batch: int) -> State:
        """Zeros (L, B, H); for an LSTM the pair (h, c)."""
        zeros = self.decoder.weight.new_zeros(self.rnn.num_layers, batch, self.rnn.hidden_size)
        return (zeros, zeros.clone()) if isinstance(self.rnn, nn.LSTM) else zeros


@torch.no_grad()
def published_initialization(module: nn.Module) -> None:
    """Matrices uniform in +-sqrt(3 / max(fan)), fan the larger dimension; biases zero (released code)."""
    for parameter in module.parameters():
        if parameter.dim() < 2:
            parameter.zero_()
        else:
            bound = math.sqrt(3 / max(parameter.shape))
            parameter.uniform_(-bound, bound)
