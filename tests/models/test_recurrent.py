from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atbptt
from atbptt.models.networks import PointProcessNetwork, RecurrentNetwork
from atbptt.models.recurrent import halves
from atbptt.models.states import tensors
from tests.helpers.modules import B, D, Decoded, H, data, message_of, squared_error
from tests.helpers.networks import B as BATCH, H as HIDDEN, V, events, network, point_process, symbols


@pytest.mark.parametrize("model", [network(layers=2, embedding=4, dropout=0.3), point_process(dropout=0.3)])
def test_the_halves_make_what_the_whole_does(model: nn.Module) -> None:
    found = halves(model.eval())
    inputs = events(6) if isinstance(model, PointProcessNetwork) else symbols(6)
    whole, after = model(inputs, model.initial_state(BATCH))  # type: ignore[operator]
    features, state = found.recur(inputs, model.initial_state(BATCH))  # type: ignore[operator]
    assert features.shape == (6, BATCH, HIDDEN)
    assert torch.equal(found.decode(features), whole)
    assert all(torch.equal(a, b) for a, b in zip(tensors(state), tensors(after), strict=True))


def test_a_model_without_halves_is_its_own() -> None:
    model = nn.Linear(2, 2)
    found = halves(model)
    assert found.whole
    assert found.recur is model
    assert found.decode(symbols(2)).tolist() == symbols(2).tolist()


class Louder(RecurrentNetwork):
    """Does more in its forward pass than its parents' halves."""

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, state = super().forward(inputs, state)
        return 2 * outputs, state


class Narrower(RecurrentNetwork):
    """Does it in a half, which the forward pass of its parent calls."""

    def decode(self, features: Tensor) -> Tensor:
        return super().decode(features) / 2


def test_a_forward_pass_of_ones_own_is_not_passed_over() -> None:
    louder, narrower = Louder(V, V, hidden=HIDDEN), Narrower(V, V, hidden=HIDDEN)
    assert halves(louder).whole
    found = halves(narrower)
    assert not found.whole
    inputs, state = symbols(4), narrower.initial_state(BATCH)
    assert torch.equal(found.decode(found.recur(inputs, state)[0]), narrower(inputs, state)[0])
    assert found.recur.__func__ is RecurrentNetwork.recur  # type: ignore[attr-defined]


class NoNone(Decoded):
    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden, cell = state
        return super().forward(inputs, (hidden, cell))


def test_a_model_that_takes_no_None_says_what_it_needs() -> None:
    message = message_of(NoNone(nn.LSTM(D, H)))
    assert message.startswith("model (=NoNone) must run as model(inputs, state), with None for the zero state where it")
    state = torch.zeros(1, B, H, dtype=torch.float64), torch.zeros(1, B, H, dtype=torch.float64)
    assert atbptt.probe(NoNone(nn.LSTM(D, H)).double(), squared_error, *data(), state=state).problem() is None


class Returning(Decoded):
    """Returns something else than it should."""

    def __init__(self, change: Callable[[Tensor, Any], Any]) -> None:
        super().__init__(nn.LSTM(D, H))
        self.change = change

    def forward(self, inputs: Tensor, state: Any) -> Any:
        return self.change(*super().forward(inputs, state))

    def initial_state(self, batch: int) -> Any:
        return torch.zeros(1, batch, H, dtype=torch.float64), torch.zeros(1, batch, H, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda outputs, _: outputs, "Tensor"),
        (lambda outputs, state: (outputs, *state), "tuple of 3"),
        (lambda _, __: None, "null"),
    ],
)
def test_a_model_that_returns_no_pair_is_reported(change: Any, what: str) -> None:
    assert message_of(Returning(change)) == f"model (=Returning) must return the pair (outputs, state), not {what}"


def test_a_model_that_returns_no_state_is_reported() -> None:
    message = message_of(Returning(lambda outputs, _: (outputs, None)))
    assert message == "state must be a tensor, or a tuple, list or dict of tensors, not NoneType"


def test_a_model_that_does_not_run_is_not_said_to_lack_a_state() -> None:
    """The message must name the model and hand on what went wrong, not guess."""
    message = message_of(nn.Linear(D, 2))
    assert message.startswith("model (=Linear) must run as model(inputs, state), with None for the zero state where it")
    assert "positional arguments" in message


def test_what_is_no_module_is_reported() -> None:
    assert message_of(lambda inputs, state: (inputs, state)) == "model (=function) must be a torch.nn.Module"


def test_layers_that_read_batch_first_are_reported_with_what_to_do() -> None:
    assert "batch_first=False" in message_of(Decoded(nn.LSTM(D, H, batch_first=True)))


def test_a_model_that_remembers_beside_its_state_is_reported() -> None:
    message = message_of(nn.GRU(D, H, bidirectional=True), lambda outputs, _: outputs.square().sum(-1))
    assert message.startswith("model (=GRU) must give in two pieces what it gives at once")
