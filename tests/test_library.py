"""The library as its users meet it: `atbptt.probe` on modules of their own, and the names that `atbptt` exports."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import atbptt
from atbptt.models.states import detach, leaves, map_state, tensors
from atbptt.probes.gradients import loss_positions

B, D, H, STEPS, BURN_IN, TAU = 3, 4, 5, 14, 2, 6
WINDOW = STEPS - BURN_IN


class Decoded(nn.Module):
    """One recurrent module and a decoder."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn, self.decoder, self.dropout = rnn, nn.Linear(H, 2), nn.Dropout(0.5)

    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden, state = self.rnn(inputs, state)
        return self.decoder(self.dropout(hidden)), state


class Stacked(nn.Module):
    """Two cells of different kind; the state is a pair of theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper, self.decoder = nn.LSTM(D, H), nn.GRU(H, H), nn.Linear(H, 2)

    def forward(self, inputs: Tensor, state: Any) -> Any:
        lower, upper = state or (None, None)
        hidden, lower = self.lower(inputs, lower)
        hidden, upper = self.upper(hidden, upper)
        return self.decoder(hidden), (lower, upper)


class ByName(Stacked):
    """Its state is a dict."""

    def forward(self, inputs: Tensor, state: Any) -> Any:
        outputs, (lower, upper) = super().forward(inputs, state and (state["lower"], state["upper"]))
        return outputs, {"lower": lower, "upper": upper}


class Levels(NamedTuple):
    lower: Any
    upper: Any


class InATuple(Stacked):
    """Its state is a NamedTuple."""

    def forward(self, inputs: Tensor, state: Any) -> Any:
        outputs, (lower, upper) = super().forward(inputs, state and (state.lower, state.upper))
        return outputs, Levels(lower, upper)


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

    def __init__(self) -> None:
        super().__init__(nn.GRUCell(D, H))

    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden = []
        for step in inputs:
            state = self.rnn(step, state)
            hidden.append(state)
        return self.decoder(torch.stack(hidden)), state


class LSTMCellByCell(Decoded):
    """The same of an LSTM's cell, whose state is a pair."""

    def __init__(self) -> None:
        super().__init__(nn.LSTMCell(D, H))

    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden = []
        for step in inputs:
            state = self.rnn(step, state)
            hidden.append(state[0])
        return self.decoder(torch.stack(hidden)), state


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(dim=-1)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(STEPS, B, size, generator=generator, dtype=torch.float64) for size in (D, 2))  # type: ignore[return-value]


def layer_alone() -> tuple[nn.Module, Any]:
    """torch's layer itself is the model, and the loss has the decoder."""
    decoder = nn.Linear(H, 2).double()
    return nn.LSTM(D, H), lambda outputs, targets: squared_error(decoder(outputs), targets)


MODELS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "LSTM itself": layer_alone,
    "LSTM and decoder": lambda: (Decoded(nn.LSTM(D, H, 2)), squared_error),
    "two cells": lambda: (Stacked(), squared_error),
    "dict": lambda: (ByName(), squared_error),
    "NamedTuple": lambda: (InATuple(), squared_error),
    "minimal GRU": lambda: (MinGRU(), squared_error),
    "initial_state": lambda: (Begun(), squared_error),
    "GRUCell": lambda: (CellByCell(), squared_error),
    "LSTMCell": lambda: (LSTMCellByCell(), squared_error),
}


def made(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model, loss = MODELS[name]()
    return model.double(), loss


def norms_by_hand(model: nn.Module, loss: Any, positions: list[int], state: Any) -> np.ndarray:
    """phi of each position, lag and stream, from autograd step by step: (P, W, B), NaN where there is no such lag."""
    inputs, targets = (part[BURN_IN:] for part in data())
    found = np.full((len(positions), WINDOW, B), np.nan)
    for row, position in enumerate(positions):
        states = [leaves(state)]
        for t in range(position + 1):
            outputs, after = model(inputs[t : t + 1], states[-1])
            states.append(map_state(lambda part: part.view_as(part), after))  # c reaches h within a step, too
        value = loss(outputs, targets[position : position + 1]).mean()
        for lag in range(1, position + 2):
            parts = torch.autograd.grad(
                value, tensors(states[position + 1 - lag]), retain_graph=True, materialize_grads=True
            )
            squares = sum(part.reshape(-1, B, H).square().sum(dim=(0, 2)) for part in parts)
            found[row, lag - 1] = torch.as_tensor(squares).sqrt().numpy()
    return found


def bias_by_hand(model: nn.Module, loss: Any, positions: list[int], state: Any, names: tuple[str, ...]) -> np.ndarray:
    """||g_K - g_W|| / ||g_W|| for K = 1..W: each loss from a state that is detached K steps before."""
    inputs, targets = (part[BURN_IN:] for part in data())
    parameters = [parameter for name, parameter in model.named_parameters() if name in names]
    truncated = []
    for K in range(1, WINDOW + 1):
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for position in positions:
            first = max(0, position + 1 - K)
            before = detach(model(inputs[:first], state)[1]) if first else state
            outputs, _ = model(inputs[first : position + 1], before)
            value = loss(outputs[-1:], targets[position : position + 1]).mean()
            found = torch.autograd.grad(value, parameters, materialize_grads=True)
            total = [a + b for a, b in zip(total, found, strict=True)]
        truncated.append(torch.cat([part.flatten() for part in total]))
    return np.array([float((g - truncated[-1]).norm() / truncated[-1].norm()) for g in truncated])


@pytest.mark.parametrize("name", MODELS)
def test_a_probe_is_what_autograd_says_by_hand(name: str) -> None:
    model, loss = made(name)
    model.eval()
    found = atbptt.probe(model, loss, *data(), burn_in=BURN_IN, tau=TAU, positions=2)
    positions = loss_positions(WINDOW, TAU, 2)
    assert positions == [6, 11]
    first = model.initial_state(B) if hasattr(model, "initial_state") else None  # type: ignore[operator]
    state = detach(model(data()[0][:BURN_IN], first)[1])
    norms = norms_by_hand(model, loss, positions, state)
    np.testing.assert_allclose(found.gradients.norms, norms, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.phi, np.nanmean(norms.mean(axis=2), axis=0), rtol=1e-9)
    assert found.gradients.parameters is not None
    expected = bias_by_hand(model, loss, positions, state, found.gradients.parameters.names)
    assert found.measured is not None
    np.testing.assert_allclose(found.measured, expected, rtol=1e-8, atol=1e-12)
    assert len(found.bound) == WINDOW
    assert found.problem() is None


def test_the_parameters_whose_gradient_is_measured_are_those_of_the_recurrence() -> None:
    def names(name: str) -> set[str]:
        model, loss = made(name)
        parameters = atbptt.probe(model, loss, *data()).gradients.parameters
        assert parameters is not None
        return {each.split(".")[0] for each in parameters.names}

    assert names("LSTM and decoder") == {"rnn"}
    assert names("dict") == {"lower", "upper"}
    assert names("minimal GRU") == {"gate", "candidate"}


def test_K_of_delta_is_the_first_that_the_estimator_allows() -> None:
    model, loss = made("dict")
    found = atbptt.probe(model, loss, *data())
    assert found.measured is not None
    for delta in (0.9, 0.3, 0.01):
        assert found.K(delta, "measured") == int(np.argmax(found.measured <= delta)) + 1
        allowed = np.flatnonzero(found.bound <= delta)
        assert found.K(delta) == (int(allowed[0]) + 1 if len(allowed) else None)
    assert found.K(1e-9, "measured") == STEPS  # against the whole window
    with pytest.raises(
        atbptt.ConfigError, match=r"estimator \(=mesured\) must be one of bound, measured; did you mean"
    ):
        found.K(0.5, "mesured")


@pytest.mark.parametrize("name", ["LSTM and decoder", "dict"])
def test_a_probe_leaves_the_module_as_it_was(name: str) -> None:
    """Mode of each module, gradients, requires_grad; and dropout is off meanwhile."""
    model, loss = made(name)
    twin, _ = made(name)
    model.train()
    next(model.children()).eval()
    modes = [module.training for module in model.modules()]
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = None if number % 2 else torch.full_like(parameter, 7.0)
    list(model.parameters())[-1].requires_grad_(False)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    found = atbptt.probe(model, loss, *data())
    np.testing.assert_array_equal(found.phi, atbptt.probe(twin.eval(), loss, *data()).phi)
    assert [module.training for module in model.modules()] == modes
    for number, (parameter, as_it_was) in enumerate(zip(model.parameters(), before, strict=True)):
        assert torch.equal(parameter, as_it_was)
        assert (parameter.grad is None) == bool(number % 2)
        assert parameter.grad is None or torch.equal(parameter.grad, torch.full_like(parameter, 7.0))
        assert parameter.requires_grad == (number < len(before) - 1)


def test_a_state_that_is_given_is_where_the_probe_begins() -> None:
    model, loss = made("dict")
    _, state = model(data()[0][:BURN_IN], None)
    inputs, targets = (part[BURN_IN:] for part in data())
    after_burn_in = atbptt.probe(model, loss, *data(), burn_in=BURN_IN).phi
    np.testing.assert_array_equal(atbptt.probe(model, loss, inputs, targets, state=state).phi, after_burn_in)
    assert not np.allclose(atbptt.probe(model, loss, inputs, targets).phi, after_burn_in)


def test_the_same_seed_makes_the_same_intervals() -> None:
    model, loss = made("LSTM and decoder")

    def resampled(seed: int) -> np.ndarray:
        return atbptt.probe(model, loss, *data(), seed=seed).estimate.bound.resampled

    np.testing.assert_array_equal(resampled(0), resampled(0))
    assert not np.array_equal(resampled(0), resampled(1))


class Returning(Decoded):
    """Returns something else than it should."""

    def __init__(self, change: Callable[[Tensor, Any], Any]) -> None:
        super().__init__(nn.LSTM(D, H))
        self.change = change

    def forward(self, inputs: Tensor, state: Any) -> Any:
        return self.change(*super().forward(inputs, state))

    def initial_state(self, batch: int) -> Any:
        return torch.zeros(1, batch, H, dtype=torch.float64), torch.zeros(1, batch, H, dtype=torch.float64)


def message_of(model: Any, loss: Any = squared_error, inputs: Any = None, targets: Any = None, **options: Any) -> str:
    """The error's, which must be one that is meant for users."""
    model = model.double() if isinstance(model, nn.Module) else model
    with pytest.raises(atbptt.ConfigError) as error:
        atbptt.probe(
            model, loss, data()[0] if inputs is None else inputs, data()[1] if targets is None else targets, **options
        )
    assert "\n" not in str(error.value)
    return str(error.value)


class NoNone(Decoded):
    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden, cell = state
        return super().forward(inputs, (hidden, cell))


def test_a_model_that_takes_no_None_says_what_it_needs() -> None:
    message = message_of(NoNone(nn.LSTM(D, H)))
    assert message.startswith("model (=NoNone) must run as model(inputs, state), with None for the zero state where it")
    state = torch.zeros(1, B, H, dtype=torch.float64), torch.zeros(1, B, H, dtype=torch.float64)
    assert atbptt.probe(NoNone(nn.LSTM(D, H)).double(), squared_error, *data(), state=state).problem() is None


def test_a_loss_of_the_wrong_shape_is_told() -> None:
    model = Decoded(nn.LSTM(D, H))
    assert "loss (=()) must have the shape (T, B) of its targets, (1, 3)" in message_of(model, nn.functional.mse_loss)
    every_feature = message_of(model, nn.MSELoss(reduction="none"))
    assert "loss (=(1, 3, 2)) must have the shape (T, B) of its targets, (1, 3)" in every_feature


def test_a_state_of_the_wrong_shape_is_told() -> None:
    message = message_of(Decoded(nn.GRU(D, H)), state=torch.zeros(1, B + 1, H, dtype=torch.float64))
    assert message.startswith("state (=(1, 4, 5) torch.float64) must be of floating point and of shape (L, B, H) or (B")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burn_in": STEPS - 3}, r"inputs \(=14\) must be burn_in \(=11\) and 4 steps at least"),
        ({"burn_in": -1}, r"burn_in \(=-1\) must be greater than or equal to 0"),
        ({"tau": STEPS}, r"tau \(=14\) must be smaller than the probe's window \(=14\)"),
        ({"positions": 0}, r"positions \(=0\) must be greater than or equal to 1"),
        ({"positions": 9}, r"positions \(=9\) must not exceed window - tau \(=4\)"),
        ({"average": "median"}, r"average \(=median\) must be one of mean, geometric"),
        ({"estimator": "lsq"}, r"estimator \(=lsq\) must be one of ols, max, quantile"),
        ({"resamples": -1}, r"resamples \(=-1\) must be greater than or equal to 0"),
    ],
)
def test_options_that_break_a_rule_are_told(options: dict[str, Any], message: str) -> None:
    model, loss = made("LSTM itself")
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.probe(model, loss, *data(), **options)


def test_a_scalar_loss_says_which_reduction_it_needs() -> None:
    assert 'reduction="none"' in message_of(Decoded(nn.LSTM(D, H)), nn.functional.mse_loss)


@pytest.mark.parametrize("targets", [torch.zeros(5, B, 2), torch.zeros(STEPS, B + 1, 2), torch.zeros(STEPS)])
def test_targets_of_other_streams_are_told(targets: Tensor) -> None:
    message = message_of(Decoded(nn.LSTM(D, H)), targets=targets.double())
    assert message.startswith("inputs and targets (=((14, 3), ")
    assert "must begin with the same (T, B), time before streams" in message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda outputs, _: outputs, "Tensor"),
        (lambda outputs, state: (outputs, *state), "tuple of 3"),
        (lambda _, __: None, "null"),
    ],
)
def test_a_model_that_returns_no_pair_is_told(change: Any, what: str) -> None:
    assert message_of(Returning(change)) == f"model (=Returning) must return the pair (outputs, state), not {what}"


def test_a_model_that_returns_no_state_is_told() -> None:
    message = message_of(Returning(lambda outputs, _: (outputs, None)))
    assert message == "state must be a tensor, or a tuple, list or dict of tensors, not NoneType"


def test_a_model_that_does_not_run_is_not_said_to_lack_a_state() -> None:
    """The message must name the model and hand on what went wrong, not guess."""
    message = message_of(nn.Linear(D, 2))
    assert message.startswith("model (=Linear) must run as model(inputs, state), with None for the zero state where it")
    assert "positional arguments" in message


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda outputs, _: outputs.mean().item(), "loss (=float) must return a tensor (T, B)"),
        (lambda outputs, targets: squared_error(outputs, targets).detach(), "loss must depend on the model's outputs"),
        ("mse", "loss (=mse) must be a function of (outputs, targets)"),
    ],
)
def test_what_is_no_loss_is_told(loss: Any, message: str) -> None:
    assert message_of(Decoded(nn.LSTM(D, H)), loss).startswith(message)


def test_what_is_no_module_is_told() -> None:
    assert message_of(lambda inputs, state: (inputs, state)) == "model (=function) must be a torch.nn.Module"


def test_layers_that_read_batch_first_are_told_what_to_do() -> None:
    assert "batch_first=False" in message_of(Decoded(nn.LSTM(D, H, batch_first=True)))


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_a_delta_that_no_bias_can_have_is_told(delta: float) -> None:
    model, loss = made("LSTM itself")
    with pytest.raises(atbptt.ConfigError, match=r"delta \(=.*\) must be greater than 0"):
        atbptt.probe(model, loss, *data()).K(delta)


class Detaching(Decoded):
    def forward(self, inputs: Tensor, state: Any) -> Any:
        return super().forward(inputs, None if state is None else tuple(part.detach() for part in state))


def test_a_model_that_detaches_its_state_is_told() -> None:
    message = message_of(Detaching(nn.LSTM(D, H)), lambda outputs, _: outputs.sum(-1))
    assert message == "model (=Detaching) must make outputs that depend on its state, which it must not detach"


def test_a_model_that_remembers_beside_its_state_is_told() -> None:
    message = message_of(nn.GRU(D, H, bidirectional=True), lambda outputs, _: outputs.square().sum(-1))
    assert message.startswith("model (=GRU) must give in two pieces what it gives at once")


@pytest.mark.parametrize("of_model", [torch.float32, torch.float64])
@pytest.mark.parametrize("of_targets", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.LSTMCell])
def test_targets_may_have_another_precision_than_the_model(kind: Any, of_model: Any, of_targets: Any) -> None:
    torch.manual_seed(0)
    model = Decoded(nn.LSTM(D, H)) if kind is nn.LSTM else LSTMCellByCell()
    inputs, targets = data()
    found = atbptt.probe(model.to(of_model), squared_error, inputs.to(of_model), targets.to(of_targets))
    assert found.problem() is None


def test_symbols_of_any_integer_type_are_read_as_by_windows() -> None:
    model, symbols = nn.Embedding(4, 4), torch.randint(4, (STEPS, B))

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.rnn = model, nn.GRU(4, 4)

        def forward(self, inputs: Tensor, state: Any) -> Any:
            return self.rnn(self.embedding(inputs), state)

    reading = Reading()
    phis = [
        atbptt.probe(reading, atbptt.cross_entropy, symbols.to(kind), symbols.to(kind)).phi
        for kind in (torch.int64, torch.int32, torch.uint8)
    ]
    np.testing.assert_array_equal(phis[1], phis[0])
    np.testing.assert_array_equal(phis[2], phis[0])
    assert atbptt.Windows(reading, atbptt.cross_entropy, symbols.byte(), symbols.byte(), atbptt.Fixed(4)).step == 0


@pytest.mark.parametrize("steps", [4, 5, 9])
def test_a_short_window_has_a_tau_that_fits(steps: int) -> None:
    model, loss = made("LSTM itself")
    inputs, targets = (part[:steps] for part in data())
    assert atbptt.probe(model, loss, inputs, targets).phi.shape == (steps,)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (10, r"K \(=null\) must be an integer from 1 on in an object of int"),
        (type("Still", (), {"K": 1})(), r"policy \(=Still\) must have a method update"),
        (atbptt.Fixed, r"K \(=null\) must be an integer from 1 on in an object of type"),
    ],
)
def test_what_is_no_policy_is_told(policy: Any, message: str) -> None:
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.Windows(nn.LSTM(D, 2).double(), squared_error, *data(), policy)


@pytest.mark.parametrize(
    ("made_of", "message"),
    [
        (lambda: atbptt.Fixed(10.0), r"K \(=10.0\) must be a whole number, 1"),
        (lambda: atbptt.Fixed(True), r"K \(=true\) must be a whole number, 1"),
        (lambda: atbptt.Full(7.5), r"window \(=7.5\) must be a whole number, 1"),
        (lambda: atbptt.Warmup(2, float("inf"), 1), r"K_final \(=inf\) must be a whole number, 1"),
        (lambda: atbptt.Variable(8, seed=None), r"seed \(=null\) must be a whole number, 0"),
        (lambda: atbptt.batchify(torch.zeros(9), 0), r"batch_size \(=0\) must lie in 1..9"),
        (lambda: atbptt.batchify(torch.zeros(9), 10), r"batch_size \(=10\) must lie in 1..9"),
    ],
)
def test_numbers_that_are_not_whole_are_told(made_of: Callable[[], Any], message: str) -> None:
    with pytest.raises(atbptt.ConfigError, match=message):
        made_of()


@pytest.mark.parametrize(
    ("options", "resamples", "message"),
    [
        ({"confidence": 0.9}, 0, r"resamples \(=0\) must be at least 1 for the policy's confidence \(=0.9\)"),
        ({"confidence": 0.9, "estimator": "measured"}, 9, r"confidence \(=0.9\) must be null with estimator=measured"),
    ],
)
def test_what_a_policy_cannot_ask_is_told_at_once(options: dict[str, Any], resamples: int, message: str) -> None:
    policy = atbptt.Adaptive(delta=0.5, K_init=2, K_min=1, K_max=5, update_every=0.5, **options)
    probes = atbptt.ProbeSettings(window=8, tau=4, burn_in=2, positions=2, resamples=resamples)
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.Windows(LSTMCellByCell().double(), squared_error, *data(), policy, probes=probes)


def test_the_module_of_the_command_is_not_the_function() -> None:
    with pytest.raises(ImportError, match="from atbptt import probe"):
        importlib.import_module("atbptt.probe")
    assert callable(atbptt.probe)


def in_a_fresh_process(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_imports_nothing_of_what_runs_experiments(root: Path) -> None:
    code = """
import sys, atbptt
assert "torch" not in sys.modules
for name in atbptt.__all__:
    getattr(atbptt, name)
heavy = "hydra omegaconf pandas matplotlib seaborn pyarrow pydantic joblib submitit rich jinja2 scipy"
print([name for name in heavy.split() if name in sys.modules])
"""
    assert in_a_fresh_process(code, root) == "[]\n"


def test_names_are_listed_and_others_are_told() -> None:
    assert dir(atbptt) == sorted(atbptt.__all__)
    assert len(set(atbptt.__all__)) == len(atbptt.__all__)
    with pytest.raises(AttributeError, match="module 'atbptt' has no attribute 'Adaptiv'"):
        _ = atbptt.Adaptiv  # type: ignore[attr-defined]


SCRIPT = """
import atbptt
import torch
from torch import nn

inputs, targets = torch.zeros(40, 3, 4), torch.zeros(40, 3, 5)

def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().mean(-1)

policy = atbptt.Adaptive(delta=0.5, K_init=4, K_min=2, K_max=9, update_every=1)
windows = atbptt.Windows(nn.LSTM(4, 5), loss, inputs, targets, policy)
for window in windows:
    window.loss().backward()
found = atbptt.probe(nn.LSTM(4, 5), loss, inputs, targets)
reveal_type(window)
reveal_type(window.loss())
reveal_type(found.phi)
reveal_type(found.measured)
reveal_type(found.K(0.5))
atbptt.Windows(nn.LSTM(4, 5), loss, inputs, targets, "fixed")
atbptt.probe(nn.LSTM(4, 5), loss, inputs, targets, burnin=3)
atbptt.nothing
"""


@pytest.fixture(scope="module")
def told(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of the script, without the places."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={folder}", "script.py"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={"PATH": "", "MYPYPATH": str(root)}, timeout=600
    )
    return [line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith("script.py")]


@pytest.mark.slow
def test_a_type_checker_sees_the_types(told: list[str]) -> None:
    revealed = [line.removeprefix("note: Revealed type is ").strip('"') for line in told if "Revealed" in line]
    assert revealed[:2] == ["atbptt.windows.loop.StreamWindow", "torch._tensor.Tensor"]
    assert revealed[2].startswith("numpy.ndarray[")
    assert revealed[3].startswith("numpy.ndarray[")
    assert revealed[3].endswith("| None")
    assert revealed[4] == "int | None"
    assert any('"Windows" has incompatible type "str"; expected "AnyPolicy"' in line for line in told)
    assert any('Unexpected keyword argument "burnin"' in line for line in told)


@pytest.mark.slow
def test_a_type_checker_knows_which_names_there_are(told: list[str]) -> None:
    assert any('has no attribute "nothing"' in line for line in told)
