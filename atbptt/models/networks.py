"""The recurrent networks of the published experiments."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError, require, require_choice
from atbptt.models.states import State
from atbptt.system import require_memory

CELLS: dict[str, tuple[Callable[..., nn.RNNBase], dict[str, str]]] = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}
MOST_LAYERS = 1000
EVENT_DATA = "reads event data (T, B, E + 2), of dataset=book_order or dataset=events"


class Halved(nn.Module):
    """A network of two halves, `recur` and `decode`, with torch's recurrent layers `rnn`."""

    rnn: nn.RNNBase

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.recur(inputs, state)  # type: ignore[operator]
        return self.decode(features), state  # type: ignore[operator]

    def initial_state(self, batch: int) -> State:
        """Zeros (L, B, H); for an LSTM the pair (h, c)."""
        zeros = next(self.rnn.parameters()).new_zeros(self.rnn.num_layers, batch, self.rnn.hidden_size)
        return (zeros, zeros.clone()) if isinstance(self.rnn, nn.LSTM) else zeros

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("hidden", "cell") if isinstance(self.rnn, nn.LSTM) else ("hidden",)


class RecurrentNetwork(Halved):
    """Symbols or real-valued inputs, recurrent layers, a linear decoder.

    Arguments:
        input_size: number of symbols V (integer inputs) or features D (real-valued inputs).
        cell: `lstm`, `gru`, `rnn_tanh` or `rnn_relu`.
        layers: recurrent layers L.
        hidden: hidden size H of each layer.
        embedding: size of a learned embedding of the symbols; null feeds them one-hot.
        tied: the decoder shares the embedding's matrix (Press & Wolf 2017; Inan et al. 2017); embedding must be H.
        dropout: probability, on the inputs of each recurrent layer and of the decoder.

    Matrices start uniform in +-sqrt(3 / max(fan)), biases at zero (the published initialisation).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        cell: str = "lstm",
        layers: int = 1,
        hidden: int = 50,
        embedding: int | None = None,
        tied: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require(embedding is None or embedding >= 1, "embedding", embedding, "must be at least 1, or null")
        if tied:
            rule = f"must be hidden (={hidden}): tied shares the embedding's matrix with the decoder"
            require(embedding == hidden, "embedding", embedding, rule)
            rule = f"needs as many inputs as outputs, and the data set has {input_size} and {output_size}"
            require(input_size == output_size, "tied", tied, rule)
        width = input_size if embedding is None else embedding
        outer = input_size * (embedding or 0) + hidden * output_size
        check_layers(cell, width, layers, hidden, dropout, outer, f"{input_size} inputs and {output_size} outputs")
        self.input_size = input_size
        self.embedding = None if embedding is None else nn.Embedding(input_size, embedding)
        self.rnn = recurrent_layers(cell, width, layers, hidden, dropout)
        self.decoder = nn.Linear(hidden, output_size)
        if tied and self.embedding is not None:
            self.decoder.weight = self.embedding.weight
        self.dropout = nn.Dropout(dropout)
        published_initialization(self)

    def recur(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Symbols (T, B) or reals (T, B, D) to the hidden states of the last layer, (T, B, H), and the state after."""
        if inputs.is_floating_point():
            if self.embedding is not None:
                size = self.embedding.embedding_dim
                raise ConfigError("embedding", f"(={size}) must be null: the inputs are real numbers, not symbols")
            features = inputs
        elif self.embedding is not None:
            features = self.embedding(inputs)
        else:
            features = nn.functional.one_hot(inputs, self.input_size).to(self.decoder.weight.dtype)
        hidden, state = self.rnn(self.dropout(features), state)
        return hidden, state

    def decode(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.decoder(self.dropout(features))
        return outputs


class PointProcessNetwork(Halved):
    """Recurrent marked temporal point process: what comes next, and when (Du et al., KDD 2016).

    Inputs are events (T, B, E + 2): the event one-hot, 1 at a sequence's first event, the interval before the
    event. Outputs (T, B, E + 2): logits of the next event, the log rate right after this one, and the growth w
    of the log rate, one learned number that is the same at every step (see `point_process`).

    Arguments:
        cell, layers, hidden: as in `RecurrentNetwork`.
        embedding: size of a learned linear embedding of the event; the mark and the interval are fed beside it.
        dropout: probability, on the embedding, between recurrent layers and on the inputs of the decoders.

    Starts as `RecurrentNetwork` does; w is a 1x1 matrix, uniform in +-sqrt(3).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        cell: str = "lstm",
        layers: int = 2,
        hidden: int = 128,
        embedding: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require(embedding >= 1, "embedding", embedding, "must be at least 1")
        if input_size != output_size or input_size < 3:
            raise ConfigError("_target_", f"(=PointProcessNetwork) {EVENT_DATA}")
        self.events = input_size - 2
        outer = self.events * (embedding + hidden)
        check_layers(cell, embedding + 2, layers, hidden, dropout, outer, f"{self.events} event types")
        self.embedding = nn.Linear(self.events, embedding)
        self.rnn = recurrent_layers(cell, embedding + 2, layers, hidden, dropout)
        self.decoder = nn.Linear(hidden, self.events + 1)
        self.growth = nn.Parameter(torch.empty(1, 1))  # w, per unit of time
        self.dropout = nn.Dropout(dropout)
        published_initialization(self)

    def recur(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Events (T, B, E + 2) to the hidden states of the last layer, (T, B, H), and the state after."""
        if not inputs.is_floating_point():
            raise ConfigError("_target_", f"(=PointProcessNetwork) {EVENT_DATA}")
        event, mark_and_interval = inputs[..., : self.events], inputs[..., self.events :]
        features = torch.cat([self.dropout(self.embedding(event)), mark_and_interval], dim=-1)
        hidden, state = self.rnn(features, state)
        return hidden, state

    def decode(self, features: Tensor) -> Tensor:
        decoded = self.decoder(self.dropout(features))
        return torch.cat([decoded, self.growth.expand(*decoded.shape[:-1], 1)], dim=-1)


def check_layers(cell: str, width: int, layers: int, hidden: int, dropout: float, outer: int, reads: str) -> None:
    """Raise a `ConfigError` if an option of the layers breaks its rule, or their parameters need too much memory.

    `outer` is the number of further parameters, `reads` what the network is made for.
    """
    require_choice("cell", cell, CELLS)
    require(1 <= layers <= MOST_LAYERS, "layers", layers, f"must lie in 1..{MOST_LAYERS}")
    require(hidden >= 1, "hidden", hidden, "must be at least 1")
    require(0 <= dropout < 1, "dropout", dropout, "must be at least 0 and below 1")
    gates = {"lstm": 4, "gru": 3}.get(cell, 1)
    count = gates * hidden * (width + (2 * layers - 1) * hidden) + outer
    # A check copies them in float64.
    require_memory("hidden", hidden, 12 * count, f"with {count:.1e} parameters, for {reads},")


def recurrent_layers(cell: str, width: int, layers: int, hidden: int, dropout: float) -> nn.RNNBase:
    kind, options = CELLS[cell]
    between = dropout if layers > 1 else 0.0  # torch warns about it with one layer
    return kind(width, hidden, layers, dropout=between, **options)


@torch.no_grad()
def published_initialization(module: nn.Module) -> None:
    """Matrices uniform in +-sqrt(3 / larger dimension), biases zero (released code)."""
    for parameter in module.parameters():
        if parameter.dim() < 2:
            parameter.zero_()
        else:
            bound = math.sqrt(3 / max(parameter.shape))
            parameter.uniform_(-bound, bound)
