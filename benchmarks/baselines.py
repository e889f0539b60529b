"""Probes and training as one would write them without this project, with torch and numpy."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.windows import Stream, Window, windows

SCHEME = "original-buffer"

LSTMState = tuple[Tensor, Tensor]


class PlainNetwork(nn.Module):
    """One-hot or embedded symbols, torch's LSTM, a linear decoder. It loads the state of a `RecurrentNetwork`.

    Arguments:
        symbols: V.
        layers, hidden: L, H.
        tied: embed symbols in H numbers with the decoder's matrix; otherwise they are one-hot.
    """

    def __init__(self, symbols: int, layers: int, hidden: int, tied: bool) -> None:
        super().__init__()
        self.symbols = symbols
        self.embedding = nn.Embedding(symbols, hidden) if tied else None
        self.rnn = nn.LSTM(hidden if tied else symbols, hidden, layers)
        self.decoder = nn.Linear(hidden, symbols)
        if self.embedding is not None:
            self.decoder.weight = self.embedding.weight

    def features(self, inputs: Tensor) -> Tensor:
        """Inputs of the LSTM, (T, B, V) or (T, B, H), for symbols (T, B)."""
        if self.embedding is not None:
            embedded: Tensor = self.embedding(inputs)
            return embedded
        return nn.functional.one_hot(inputs, self.symbols).to(self.decoder.weight.dtype)

    def forward(self, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits (T, B, V) and the next state, for symbols (T, B) and the previous state."""
        hidden, state = self.rnn(self.features(inputs), state)
        return self.decoder(hidden), state

    def zero_state(self, batch: int) -> LSTMState:
        """The pair (h, c) of shape (L, B, H) each."""
        zeros = self.decoder.weight.new_zeros(self.rnn.num_layers, batch, self.rnn.hidden_size)
        return zeros, zeros


def plain_probe(model: PlainNetwork, inputs: Tensor, targets: Tensor) -> np.ndarray:
    """phi of the loss at the last step for all lags, (W, B); row 0 is lag 1.

    The method of the code released with the paper: run the model step by step with detached states, then go back step
    by step with one `backward` for h and one for c, starting from the gradient at the next step's initial state. This
    also computes gradients of the parameters. Each state's gradient is copied to numpy.

    Arguments:
        inputs, targets: symbols (W, B).
    """
    state = model.zero_state(inputs.shape[1])
    before: list[LSTMState] = []  # of each step, a leaf
    after: list[LSTMState] = []
    for t in range(len(inputs)):
        h, c = (part.detach().requires_grad_() for part in state)
        outputs, state = model(inputs[t : t + 1], (h, c))
        before.append((h, c))
        after.append(state)
    nn.functional.cross_entropy(outputs[0], targets[-1]).backward(retain_graph=True)
    norms = [_norms([part.grad for part in before[-1]])]
    for t in range(len(inputs) - 2, -1, -1):
        for part, handed_on in zip(after[t], before[t + 1], strict=True):
            part.backward(handed_on.grad, retain_graph=True)
        norms.append(_norms([part.grad for part in before[t]]))
    model.zero_grad()
    return np.stack(norms)


def one_call_probe(model: PlainNetwork, inputs: Tensor, targets: Tensor) -> np.ndarray:
    """The same norms (W, B) from one graph over all steps and one `torch.autograd.grad` for all states.

    The parameters' gradients are not computed, and only the last step is decoded.
    """
    h, c = (part.clone().requires_grad_() for part in model.zero_state(inputs.shape[1]))
    states: list[LSTMState] = [(h, c)]
    for t in range(len(inputs)):
        hidden, state = model.rnn(model.features(inputs[t : t + 1]), states[-1])
        states.append(state)
    loss = nn.functional.cross_entropy(model.decoder(hidden[0]), targets[-1])
    gradients = torch.autograd.grad(loss, [part for state in states[-2::-1] for part in state])
    return np.stack([_norms(pair) for pair in zip(gradients[::2], gradients[1::2], strict=True)])


def _norms(gradients: Sequence[Tensor | None]) -> np.ndarray:
    """Norm for each stream, (B,), of the gradients (L, B, H) of h and c."""
    copies = [gradient.cpu().numpy().copy() for gradient in gradients if gradient is not None]
    return np.sqrt(sum((copy**2).sum(axis=(0, 2)) for copy in copies))


class PlainTraining:
    """Training with windows of the scheme original-buffer.

    All steps of a window are decoded, including the pre-roll, and its losses are summed in a loop over steps.

    Arguments:
        stream: symbols (T, B).
        K: truncation length.
        lr: multiplied by the square root of a window's losses, as with lr_scaling=sqrt.
        clip_norm: limit of the gradient norm of the sum of a window's losses.
        weight_decay: as in torch's SGD.
    """

    def __init__(
        self, model: PlainNetwork, stream: Stream, K: int, lr: float, clip_norm: float, weight_decay: float
    ) -> None:
        self.model = model
        self.stream = stream
        self.lr = lr
        self.clip_norm = clip_norm
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)
        self.windows = _endless_windows(K, stream.length)
        self.state = model.zero_state(stream.batch)

    def advance(self) -> None:
        """One window, one update."""
        window = next(self.windows)
        if window.loss_start == 0:  # a new epoch
            self.state = self.model.zero_state(self.stream.batch)
        inputs, targets = self.stream.read(window.start, window.stop)
        handed_over = window.next_start - window.start  # steps to the next window's first state
        pieces = []
        if handed_over:
            outputs, self.state = self.model(inputs[:handed_over], self.state)
            pieces.append(outputs)
        if handed_over < len(inputs):
            outputs, _ = self.model(inputs[handed_over:], self.state)
            pieces.append(outputs)
        outputs = torch.cat(pieces)
        loss = torch.zeros((), device=outputs.device)
        for t in range(window.loss_start - window.start, len(inputs)):
            loss = loss + nn.functional.cross_entropy(outputs[t], targets[t])
        self.optimizer.zero_grad()
        (loss / window.losses).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm / window.losses)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * window.losses**0.5
        self.optimizer.step()
        h, c = self.state
        self.state = h.detach(), c.detach()


class BareTraining:
    """The minimum of an update on a window: the LSTM, the decoder, the loss, torch's SGD.

    The windows are those of the project, only steps with a loss are decoded, and the gradient is not clipped.

    Arguments:
        stream: symbols (T, B).
        K: truncation length.
        lr: learning rate.
        hands_over: start each window from the state that the previous window had at the same step. This takes a second
            call of the LSTM, which only returns its last state. Otherwise windows start from zero, which is wrong.
    """

    def __init__(self, model: PlainNetwork, stream: Stream, K: int, lr: float, hands_over: bool) -> None:
        self.hands_over = hands_over
        self.model = model
        self.stream = stream
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        self.windows = _endless_windows(K, stream.length)
        self.state = model.zero_state(stream.batch)

    def advance(self) -> None:
        """One window, one update."""
        window = next(self.windows)
        if window.loss_start == 0:  # a new epoch
            self.state = self.model.zero_state(self.stream.batch)
        inputs, targets = self.stream.read(window.start, window.stop)
        counted = window.loss_start - window.start
        features = self.model.features(inputs)
        handed_over = window.next_start - window.start
        if self.hands_over and 0 < handed_over < len(inputs):
            first, state = self.model.rnn(features[:handed_over], self.state)
            second, _ = self.model.rnn(features[handed_over:], state)
            hidden = torch.cat([first, second])
            self.state = state[0].detach(), state[1].detach()
        else:
            hidden, _ = self.model.rnn(features, self.state)
        outputs = self.model.decoder(hidden[counted:])
        loss = nn.functional.cross_entropy(outputs.flatten(0, 1), targets[counted:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _endless_windows(K: int, length: int) -> Iterator[Window]:
    """The windows of pass after pass over a stream."""
    while True:
        yield from windows(SCHEME, K, length)
