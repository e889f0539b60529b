"""`atbptt.probe` on modules of the users' own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import atbptt
from atbptt.models.networks import RecurrentNetwork
from atbptt.models.states import detach
from tests.helpers.modules import BURN_IN, MODELS, STEPS, TAU, B, data, made
from tests.helpers.probing import norms_by_hand

WINDOW = STEPS - BURN_IN


def truncated_gradients(
    model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor, positions: list[int], state: Any, names: Any
) -> list[Tensor]:
    """g_K of the mean loss for K = 1..W: each loss from a state that is detached K steps before."""
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
        truncated.append(torch.cat([part.flatten() for part in total]) / len(positions))
    return truncated


# The steps through which the losses of a window are backpropagated, of docs/definitions.md.
LENGTHS = {
    "original-buffer": lambda K: range(K, 2 * K),
    "original": lambda K: [K],
    "tf": lambda K: range(1, K + 1),
    "double-tf": lambda K: range(1, 2 * K),
    "buffer": lambda K: range(K, 2 * K),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_probe_is_what_autograd_says_by_hand(name: str) -> None:
    model, loss = made(name)
    model.eval()
    found = atbptt.probe(model, loss, *data(), burn_in=BURN_IN, tau=TAU, positions=2)
    positions = [6, 11]
    first = model.initial_state(B) if hasattr(model, "initial_state") else None  # type: ignore[operator]
    state = detach(model(data()[0][:BURN_IN], first)[1])
    inputs, targets = (part[BURN_IN:] for part in data())
    norms = norms_by_hand(model, loss, inputs, targets, positions, state)
    np.testing.assert_allclose(found.gradients.norms, norms, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.phi, np.nanmean(norms.mean(axis=2), axis=0), rtol=1e-9)
    parameters = found.gradients.parameters
    assert parameters is not None
    gradients = truncated_gradients(model, loss, inputs, targets, positions, state, parameters.names)
    full = gradients[-1]
    np.testing.assert_allclose(parameters.norm, float(full.norm()), rtol=1e-9)
    for scheme, lengths in LENGTHS.items():
        found = atbptt.probe(model, loss, *data(), scheme=scheme, burn_in=BURN_IN, tau=TAU, positions=2)
        parameters = found.gradients.parameters
        assert parameters is not None
        means = [
            torch.stack([gradients[min(length, WINDOW) - 1] for length in lengths(K)]).mean(dim=0)
            for K in range(1, WINDOW + 1)
        ]
        of_scheme, of_steps = (
            (
                [float((g - full).norm() / full.norm()) for g in each],
                [float(nn.functional.cosine_similarity(g, full, dim=0)) for g in each],
            )
            for each in (means, gradients)
        )
        np.testing.assert_allclose(found.measured, of_scheme[0], rtol=1e-8, atol=1e-12, err_msg=scheme)
        np.testing.assert_allclose(parameters.cosine, of_scheme[1], rtol=1e-9)
        np.testing.assert_allclose(found.measured_of_steps, of_steps[0], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(parameters.cosine_of_steps, of_steps[1], rtol=1e-9)
    assert len(found.bound) == WINDOW + 1
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
    with pytest.raises(atbptt.ConfigError, match=r"estimator \(=mesured\) must be one of bound, measured; did"):
        found.K(0.5, "mesured")
    for delta in (0.0, float("nan")):
        with pytest.raises(atbptt.ConfigError, match=r"delta \(=.*\) must be greater than 0"):
            found.K(delta)


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
    assert not any("forward" in vars(module) for module in model.modules())
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


@pytest.mark.parametrize(("of_model", "of_targets"), [(torch.float32, torch.float64), (torch.float64, torch.float32)])
@pytest.mark.parametrize("name", ["LSTM and decoder", "LSTMCell"])
def test_targets_may_have_another_precision_than_the_model(name: str, of_model: Any, of_targets: Any) -> None:
    (model, loss), (inputs, targets) = made(name), data()
    found = atbptt.probe(model.to(of_model), loss, inputs.to(of_model), targets.to(of_targets))
    assert found.problem() is None


def test_symbols_may_be_of_any_integer_type() -> None:
    model, symbols = RecurrentNetwork(4, 4, hidden=4, embedding=4), torch.randint(4, (STEPS, B))
    phis = [
        atbptt.probe(model, atbptt.cross_entropy, symbols.to(kind), symbols.to(kind)).phi
        for kind in (torch.int64, torch.int32, torch.uint8)
    ]
    np.testing.assert_array_equal(phis[1], phis[0])
    np.testing.assert_array_equal(phis[2], phis[0])
    assert atbptt.Windows(model, atbptt.cross_entropy, symbols.byte(), symbols.byte(), atbptt.Fixed(4)).step == 0


@pytest.mark.parametrize("steps", [4, 5, 9])
def test_a_short_window_has_a_tau_that_fits(steps: int) -> None:
    model, loss = made("LSTM itself")
    inputs, targets = (part[:steps] for part in data())
    assert atbptt.probe(model, loss, inputs, targets).phi.shape == (steps,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burn_in": STEPS - 3}, r"inputs \(=14\) must be burn_in \(=11\) and at least 4 steps"),
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
