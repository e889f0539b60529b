"""Networks and symbols for tests of probes, and the way that takes no network apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.models import leaves, map_tensors, tensors
from atbptt.models.networks import RecurrentNetwork
from atbptt.probes import gradients
from atbptt.probes.adjoint import UnsuitedError
from atbptt.probes.lags import LagGradients

CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def force_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise UnsuitedError

    monkeypatch.setattr(gradients, "record", refuse)


def network(**options: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    made = RecurrentNetwork(5, 5, **({"hidden": 4} | options)).double()
    for parameter in made.parameters():
        if parameter.dim() < 2:  # biases start at zero
            nn.init.normal_(parameter, std=0.3)
    return made


def symbols(steps: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randint(5, (steps, batch), generator=generator),
        torch.randint(5, (steps, batch), generator=generator),
    )


def assert_same(found: LagGradients, expected: LagGradients, rtol: float) -> None:
    assert found.components == expected.components
    for name in ("losses", "norms", "component_norms", "kept_of_mean", "component_kept_of_mean"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=rtol, err_msg=name)


def norms_by_hand(
    model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor, positions: list[int], state: Any
) -> np.ndarray:
    """phi of each position, lag and stream, by autograd step by step: (P, W, B), NaN where there is no such lag."""
    found = np.full((len(positions), *inputs.shape[:2]), np.nan)
    for row, position in enumerate(positions):
        states = [leaves(state)]
        for t in range(position + 1):
            outputs, after = model(inputs[t : t + 1], states[-1])
            # c reaches h within a step, too; a state that depends on nothing still has a gradient.
            states.append(map_tensors(lambda part: part.view_as(part) if part.requires_grad else leaves(part), after))
        value = loss(outputs, targets[position : position + 1]).mean()
        for lag in range(1, position + 2):
            of = tensors(states[position + 1 - lag])
            parts = torch.autograd.grad(value, of, retain_graph=True, materialize_grads=True)
            squares = sum(part.square().sum(dim=-1).reshape(-1, part.shape[-2]).sum(dim=0) for part in parts)
            found[row, lag - 1] = torch.as_tensor(squares).sqrt().numpy()
    return found


class Elman(nn.Module):
    """A network around one of torch's modules, which `step` uses in its own way."""

    def __init__(self, step: Callable[..., Any] | None = None, kind: type[nn.RNNBase] = nn.GRU, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.step = step
        self.rnn = kind(5, 4, **options)
        self.decoder = nn.Linear(4, 5)
        self.double()

    def plain(self, encoded: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.rnn(encoded, state)
        return self.decoder(hidden), state

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        encoded = nn.functional.one_hot(inputs, 5).double()
        return self.plain(encoded, state) if self.step is None else self.step(self, encoded, state)

    def initial_state(self, batch: int) -> Any:
        zeros = torch.zeros(self.rnn.num_layers, batch, 4, dtype=torch.float64)
        return (zeros, zeros.clone()) if isinstance(self.rnn, nn.LSTM) else zeros


class OfCells(nn.Module):
    """Two cells and a state of its own shape."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.lower, self.upper = nn.GRUCell(5, 4), nn.LSTMCell(4, 4)
        self.decoder = nn.Linear(4, 5)
        self.double()

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs = []
        for symbol in inputs:
            lower = self.lower(nn.functional.one_hot(symbol, 5).double(), state["lower"])
            state = {"lower": lower, "upper": self.upper(lower, state["upper"])}
            outputs.append(self.decoder(state["upper"][0]))
        return torch.stack(outputs), state

    def initial_state(self, batch: int) -> Any:
        zeros = torch.zeros(batch, 4, dtype=torch.float64)
        return {"lower": zeros, "upper": (zeros.clone(), zeros.clone())}


class Resetting(nn.Module):
    """A network that reads symbols and where its streams begin anew, (T, B, 2), and does so by itself."""

    def __init__(self, inner: RecurrentNetwork, first: Any = None) -> None:
        super().__init__()
        self.inner, self.first = inner, first

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs = []
        for step in inputs.split(1):
            firsts = iter(tensors(self.initial_state(inputs.shape[1])))
            anew = step[0, :, 1:].bool()
            state = map_tensors(lambda part: torch.where(anew, next(firsts), part), state)  # noqa: B023
            output, state = self.inner(step[..., 0], state)
            outputs.append(output)
        return torch.cat(outputs), state

    def initial_state(self, batch: int) -> Any:
        return self.inner.initial_state(batch) if self.first is None else self.first
