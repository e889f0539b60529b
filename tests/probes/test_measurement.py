"""`atbptt.probe` on modules of the users' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import atbptt
from atbptt.models.states import detach, leaves, map_state, tensors
from tests.helpers.modules import (
    BURN_IN,
    MODELS,
    STEPS,
    TAU,
    B,
    D,
    Decoded,
    H,
    LSTMCellByCell,
    data,
    made,
    squared_error,
)

WINDOW = STEPS - BURN_IN


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
    positions = [6, 11]
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
    ("options", "message"),
    [
        ({"burn_in": STEPS - 3}, r"inputs \(=14\) must be burn_in \(=11\) and 4 steps at least"),
        ({"burn_in": -1}, r"burn_in \(=-1\) must be greater than or equal to 0"),
        ({"tau": STEPS}, r"tau \(=14\) must be smaller than the probe's window \(=14\)"),
        ({"positions": 0}, r"positions \(=0\) must be greater than or equal to 1"),
        ({"positions": 9}, r"positions \(=9\) must not exceed window - tau \(=4\)"),
        ({"average": "median"}, r"average \(=median\) must be one of mean, geometric"),
        ({"decay_fit": "olss"}, r"decay_fit \(=olss\) must be one of ols, max, quantile; did you mean ols"),
        ({"kept_norm": "all"}, r"kept_norm \(=all\) must be one of of_mean, sum"),
        ({"resamples": -1}, r"resamples \(=-1\) must be greater than or equal to 0"),
    ],
)
def test_options_that_break_a_rule_are_reported(options: dict[str, Any], message: str) -> None:
    model, loss = made("LSTM itself")
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.probe(model, loss, *data(), **options)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_a_delta_that_no_bias_can_have_is_reported(delta: float) -> None:
    model, loss = made("LSTM itself")
    with pytest.raises(atbptt.ConfigError, match=r"delta \(=.*\) must be greater than 0"):
        atbptt.probe(model, loss, *data()).K(delta)
