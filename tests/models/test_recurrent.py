import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atbptt
from atbptt.models.networks import PointProcessNetwork, RecurrentNetwork
from atbptt.models.recurrent import halves
from atbptt.models.states import tensors
from tests.helpers.modules import STEPS, B, D, Decoded, H, data, message_of, squared_error
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


def test_a_model_that_takes_no_None_is_told_what_it_needs() -> None:
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


class FromOnes(Decoded):
    """Begins in ones, of which only the model knows."""

    def __init__(self) -> None:
        super().__init__(nn.GRU(D, H))

    def forward(self, inputs: Tensor, state: Any) -> Any:
        return super().forward(inputs, torch.ones(1, inputs.shape[1], H).double() if state is None else state)


MODEL = Decoded(nn.LSTM(D, H))
PAIR = "model (=Returning) must return the pair (outputs, state), not "
KIND = "must be of shape (L, B, H) or (B, H), B = 3"
UNFIT: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no pair": (Returning(lambda outputs, _: outputs), {}, f"{PAIR}Tensor"),
    "three": (Returning(lambda *pair: (*pair, 0)), {}, f"{PAIR}tuple of 3"),
    "nothing": (Returning(lambda *_: None), {}, f"{PAIR}null"),
    "no state": (
        Returning(lambda outputs, _: (outputs, None)),
        {},
        "state (=NoneType) must be a tensor, or a tuple, list or dict of tensors",
    ),
    "other parts": (
        Returning(lambda outputs, state: (outputs, {"hidden": state[0], "cell": state[1]})),
        {},
        "model (=Returning) must return a state of the same parts as its first one",
    ),
    "None for another state": (
        FromOnes(),
        {},
        "model (=FromOnes) must take None for a state of zeros; for another first state, give it...",
    ),
    "an empty state": (Returning(lambda outputs, _: (outputs, ())), {}, "state (=()) must hold at least one tensor"),
    "fewer outputs": (
        Returning(lambda outputs, state: (outputs[:, :2], state)),
        {},
        "outputs (=(8, 2)) must have the axes (T, B) of the inputs first, (8, 3)",
    ),
    "whole numbers": (
        Returning(lambda outputs, state: (outputs, state[0].long())),
        {},
        "state (=['torch.int64']) must have a tensor of floating point",
    ),
    "no module": (len, {}, "model (=builtin_function_or_method) must be a torch.nn.Module"),
    "does not run": (nn.Linear(D, 2), {}, "model (=Linear) must run as model(inputs, state), ..."),
    "batch first": (
        Decoded(nn.LSTM(D, H, batch_first=True)),
        {},
        "...(batch_first of layers as that of Windows or probe)...",
    ),
    "sees the future": (
        nn.GRU(D, H, bidirectional=True),
        {"loss": lambda outputs, _: outputs.square().sum(-1)},
        "model (=GRU) must give outputs that do not depend on later inputs: it sees later steps",
    ),
    "scalar loss": (
        MODEL,
        {"loss": nn.functional.mse_loss},
        'loss (=()) must have the shape (T, B) of its targets, (8, 3): ...reduction="none"',
    ),
    "loss of every feature": (
        MODEL,
        {"loss": nn.MSELoss(reduction="none")},
        "loss (=(8, 3, 2)) must have the shape...",
    ),
    "a number": (MODEL, {"loss": lambda *_: 1.0}, "loss (=float) must return a tensor (T, B)..."),
    "streams first": (
        MODEL,
        {"loss": lambda o, t: squared_error(o, t).T, "inputs": data()[0][:B], "targets": data()[1][:B]},
        "loss (=(3, 2)) must have the shape...",
    ),
    "a loss that fails": (
        MODEL,
        {"loss": lambda o, t: squared_error(o, t) / {}},
        "loss (=<lambda>) must run as loss(outputs, targets): TypeError: ...",
    ),
    "outliers": (
        MODEL,
        {"loss": lambda o, t: (squared_error(o, t), squared_error(o, t) < 100)},
        "loss (=a pair) must say by the targets alone which losses count, and says so by the outputs",
    ),
    "detached loss": (
        MODEL,
        {"loss": lambda outputs, targets: squared_error(outputs, targets).detach()},
        "loss must depend on the model's outputs",
    ),
    "no loss": (MODEL, {"loss": "mse"}, "loss (=mse) must be a function of (outputs, targets)"),
    "state of other streams": (
        Decoded(nn.GRU(D, H)),
        {"state": torch.zeros(1, B + 1, H, dtype=torch.float64)},
        f"state (=(1, 4, 5) torch.float64) {KIND} (batch_first of layers as that of Windows or probe)",
    ),
    "no tensor": (MODEL, {"targets": [1]}, "targets (=int) must be a tensor, or a tuple, list or dict of tensors"),
    **{
        f"targets {shape}": (
            MODEL,
            {"targets": torch.zeros(shape).double()},
            "inputs and targets (=((14, 3), ...) must begin with the same (T, B), time before streams...",
        )
        for shape in ((5, B, 2), (STEPS, B + 1, 2), (STEPS,))
    },
}


@pytest.mark.parametrize(("model", "options", "message"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_is_reported(model: Any, options: dict[str, Any], message: str) -> None:
    parts = (re.escape(part) for part in message.split("..."))
    assert re.fullmatch(".*".join(parts), message_of(model, **options))
