from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

from atbptt.errors import ConfigError
from atbptt.models.networks import RecurrentNetwork
from atbptt.models.states import detach, map_state, tensors
from atbptt.probes import adjoint as analytic, gradients, sums as measured
from atbptt.probes.adjoint import UnsuitedError
from atbptt.probes.bias import average_norms, resampling_weights
from atbptt.probes.gradients import lag_gradients, loss_positions
from atbptt.probes.sums import LagGradients

WAYS = ("analytic", "unrolled")
CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to measure a model of torch's layers."""
    if request.param == "unrolled":
        force_unrolled(monkeypatch)
    return request.param


def force_unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise UnsuitedError

    monkeypatch.setattr(gradients, "record", refuse)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[LagGradients, LagGradients]]:
    """The same probe measured both ways."""

    def measure(*arguments: Any, **options: Any) -> tuple[LagGradients, LagGradients]:
        by_layers = lag_gradients(*arguments, **options)
        with monkeypatch.context() as patch:
            force_unrolled(patch)
            return by_layers, lag_gradients(*arguments, **options)

    return measure


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


def test_golden_norms_at_every_lag_stream_and_component(golden: Any, golden_network: Any, loss: Any, way: str) -> None:
    cases, arrays = golden("gradient_norms")
    for case in cases:
        found = {
            name.removeprefix(f"case{case['case']}_"): value
            for name, value in arrays.items()
            if name.startswith(f"case{case['case']}_")
        }
        model = golden_network(case, arrays, "param")
        state = torch.tensor(found["h0"])
        if case["cell"] == "LSTM":
            state = (state, torch.tensor(found["c0"]))
        measured = lag_gradients(
            model,
            loss,
            torch.tensor(found["x"]),
            torch.tensor(found["y"]),
            [case["seq_len"] - 1],
            state=state,
        )
        assert measured.components == tuple(case["components"])
        for ours, name in (
            (measured.norms[0], "grad_norm"),
            (np.cumsum(average_norms(measured.norms)), "cum_grad_norm_approx"),
            (measured.kept_of_mean, "cum_grad_norm_of_mean"),
            (measured.component_norms[:, 0], "component_grad_norm"),
            (measured.component_kept_of_mean, "component_cum_grad_norm_of_mean"),
        ):
            np.testing.assert_allclose(ours, found[name], rtol=1e-9, err_msg=f"{case} {name} {way}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_both_ways_give_the_same(
    cell: str, layers: int, dtype: torch.dtype, rtol: float, device: str, both: Any, loss: Any
) -> None:
    model = network(cell=cell, layers=layers, hidden=16).to(device=device, dtype=dtype)
    inputs, targets = (part.to(device) for part in symbols(30))
    by_layers, by_autograd = both(model, loss, inputs, targets, [11, 12, 19, 24], burn_in=5, measured=True)
    # Where phi is below 1e-4 of the largest, a single precision number knows less than five digits of it.
    atol = 1e-4 * rtol * np.nanmax(by_autograd.norms)
    np.testing.assert_allclose(by_layers.norms, by_autograd.norms, rtol=rtol, atol=atol)
    np.testing.assert_allclose(by_layers.component_norms, by_autograd.component_norms, rtol=rtol, atol=atol)
    np.testing.assert_allclose(by_layers.kept_of_mean, by_autograd.kept_of_mean, rtol=rtol)
    assert by_layers.parameters.names == by_autograd.parameters.names
    np.testing.assert_allclose(by_layers.parameters.norm, by_autograd.parameters.norm, rtol=rtol)
    np.testing.assert_allclose(by_layers.parameters.bias, by_autograd.parameters.bias, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(by_layers.parameters.cosine, by_autograd.parameters.cosine, rtol=10 * rtol)


class Elman(nn.Module):
    """A network around one of torch's modules, which takes its state and hands it on as it pleases."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.rnn = kind(5, 4, **options)
        self.decoder = nn.Linear(self.rnn.proj_size or 4, 5)
        self.double()

    def encode(self, inputs: Tensor, state: Any) -> Tensor:  # noqa: ARG002  # for those derived from it
        return nn.functional.one_hot(inputs, 5).double()

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.rnn(self.encode(inputs, state), state)
        return self.decoder(hidden), state

    def initial_state(self, batch: int) -> Any:
        zeros = torch.zeros(self.rnn.num_layers, batch, 4, dtype=torch.float64)
        return (zeros, zeros.clone()) if isinstance(self.rnn, nn.LSTM) else zeros


class WithoutBiases(Elman):
    def __init__(self) -> None:
        super().__init__(nn.LSTM, num_layers=2, bias=False)


class StateInADict(Elman):
    """The order of the state's parts is not that of the module's."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM)

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, (h, c) = self.rnn(self.encode(inputs, state), (state["h"], state["c"]))
        return self.decoder(hidden), {"c": c, "h": h}

    def initial_state(self, batch: int) -> Any:
        h, c = super().initial_state(batch)
        return {"c": c, "h": h}


class ByName(Elman):
    """The module's arguments are given by name, and its outputs are changed in place."""

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.rnn(input=self.encode(inputs, state), hx=state)
        return self.decoder(hidden.mul_(2.0)), state


class InAList(Elman):
    def __init__(self) -> None:
        super().__init__(nn.LSTM)

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.rnn(self.encode(inputs, state), list(state))
        return self.decoder(hidden), state


class Normed(RecurrentNetwork):
    """Its first half goes on behind the module, its second changes features in place."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        super().__init__(5, 5, hidden=4)
        self.norm = nn.LayerNorm(4)
        self.double()

    def recur(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = super().recur(inputs, state)
        return self.norm(hidden), state

    def decode(self, features: Tensor) -> Tensor:
        return super().decode(features.tanh_())

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        features, state = self.recur(inputs, state)
        return self.decode(features), state


@pytest.mark.parametrize("kind", [Elman, WithoutBiases, StateInADict, ByName, InAList, Normed])
def test_a_users_model_around_one_module_is_taken_apart(
    kind: type[nn.Module], both: Any, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (inputs, targets) = kind(), symbols(12)
    by_layers, by_autograd = both(model, loss, inputs, targets, [5, 9], burn_in=2, measured=True)
    assert_same(by_layers, by_autograd, 1e-10)
    np.testing.assert_allclose(by_layers.parameters.bias, by_autograd.parameters.bias, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(gradients, "unrolled_gradients", lambda *_: pytest.fail("was run step by step"))
    lag_gradients(model, loss, inputs, targets, [5, 9], burn_in=2)


class FedTheState(Elman):
    """The module's inputs depend on the state."""

    def encode(self, inputs: Tensor, state: Any) -> Tensor:
        return super().encode(inputs, state) * state[0].mean(dim=-1, keepdim=True)


class ReadsTheState(Elman):
    """The outputs depend on the state beside the module's outputs."""

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, after = super().forward(inputs, state)
        return outputs + state[0].sum(dim=-1, keepdim=True), after


class ReadsTheCell(Elman):
    """The outputs depend on the state after the step."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM)

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, (h, c) = super().forward(inputs, state)
        return outputs + c.sum(dim=-1, keepdim=True), (h, c)


class ChangesTheState(Elman):
    """The state handed over is not the module's."""

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, after = super().forward(inputs, state)
        return outputs, 0.9 * after


class Fast(Elman):
    """The module is run twice a step."""

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        _, state = super().forward(inputs, state)
        return super().forward(inputs, state)


class Forgetful(Elman):
    """The module is not given the state."""

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, after = self.rnn(self.encode(inputs, state))
        return self.decoder(hidden + state), after


class Another(nn.GRU):
    """Derived from one of torch's: it may do anything."""


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


class Tied(Elman):
    """Two layers share a matrix: the gradient of it is not the sum of squares of two."""

    def __init__(self) -> None:
        super().__init__(nn.GRU, num_layers=2)
        self.rnn.weight_hh_l1 = self.rnn.weight_hh_l0


class WeightNormed(Elman):
    """The module's matrix is made of other parameters."""

    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.rnn, "weight_hh_l0")


class OutputsFirst(nn.Module):
    """The outputs of a step are read off the state before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.cell, self.decoder = nn.GRUCell(5, 4), nn.Linear(4, 5)
        self.double()

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for symbol in inputs:
            outputs.append(self.decoder(state))
            state = self.cell(nn.functional.one_hot(symbol, 5).double(), state)
        return torch.stack(outputs), state

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 4, dtype=torch.float64)


UNSUITED = {
    "shared parameters": Tied,
    "a matrix made of others": WeightNormed,
    "outputs before the state": OutputsFirst,
    "inputs depend on the state": FedTheState,
    "outputs depend on the state": ReadsTheState,
    "outputs depend on the cell": ReadsTheCell,
    "state is changed": ChangesTheState,
    "run twice": Fast,
    "not given the state": Forgetful,
    "a class of its own": lambda: Elman(Another),
    "cells": OfCells,
}


def by_hand(model: nn.Module, loss: Any, inputs: Tensor, targets: Tensor, position: int) -> np.ndarray:
    """phi (lags, B) by autograd, with a graph through the model's own steps."""
    states = [model.initial_state(inputs.shape[1])]
    for step in range(position + 1):
        for part in tensors(states[-1]):
            part.requires_grad_()
        outputs, after = model(inputs[step : step + 1], states[-1])
        states.append(map_state(lambda part: part.view_as(part), after))  # what a step adds to itself is no way back
    value = loss(outputs, targets[position : position + 1]).mean()
    found = []
    for state in states[position::-1]:
        parts = torch.autograd.grad(value, tensors(state), retain_graph=True, materialize_grads=True)
        found.append(sum(part.square().sum(dim=-1).reshape(-1, part.shape[-2]).sum(dim=0) for part in parts).sqrt())
    return torch.stack(found).numpy()


@pytest.mark.parametrize("why", UNSUITED)
def test_what_is_more_than_one_module_is_run_step_by_step(why: str, loss: Any) -> None:
    model, (inputs, targets) = UNSUITED[why]().requires_grad_(False), symbols(8)
    found = lag_gradients(model, loss, inputs, targets, [7], measured=True)
    np.testing.assert_allclose(found.norms[0], by_hand(model, loss, inputs, targets, 7), rtol=1e-10)
    assert found.unsuited is not None
    assert 0 <= found.parameters.bias[-1] < found.parameters.bias[0]

    def take_apart() -> None:
        state = detach(model.initial_state(3))
        recording = analytic.record(model, inputs, state)
        analytic.loss_gradients(model, recording, loss, inputs, targets, state, [7])

    with pytest.raises(UnsuitedError):
        take_apart()


class LSTMOfACell(nn.Module):
    """torch.nn.LSTM of one layer, as a cell that is run by hand: its c enters its h within a step."""

    def __init__(self, layer: nn.LSTM, decoder: nn.Linear) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(layer.input_size, layer.hidden_size).double()
        self.decoder = decoder
        for name, parameter in self.cell.named_parameters():
            parameter.data = getattr(layer, f"{name}_l0").data

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden = []
        for step in inputs:
            state = self.cell(step, state)
            hidden.append(state[0])
        return self.decoder(torch.stack(hidden)), state

    def initial_state(self, batch: int) -> Any:
        return tuple(torch.zeros(batch, self.cell.hidden_size, dtype=torch.float64) for _ in range(2))


class LSTMOfALayer(nn.Module):
    def __init__(self, layer: nn.LSTM, decoder: nn.Linear) -> None:
        super().__init__()
        self.layer, self.decoder = layer, decoder

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.layer(inputs, state)
        return self.decoder(hidden), state

    def initial_state(self, batch: int) -> Any:
        return tuple(torch.zeros(1, batch, self.layer.hidden_size, dtype=torch.float64) for _ in range(2))


def test_a_cell_that_is_run_by_hand_has_the_gradients_of_its_layer() -> None:
    torch.manual_seed(0)
    layer, decoder = nn.LSTM(3, 4).double(), nn.Linear(4, 2).double()
    inputs, targets = torch.randn(9, 2, 3, dtype=torch.float64), torch.randn(9, 2, 2, dtype=torch.float64)

    def squared(outputs: Tensor, wanted: Tensor) -> Tensor:
        return (outputs - wanted).square().sum(-1)

    taken_apart, by_steps = (
        lag_gradients(model(layer, decoder), squared, inputs, targets, [5, 8], measured=True)
        for model in (LSTMOfALayer, LSTMOfACell)
    )
    assert taken_apart.unsuited is None
    assert by_steps.unsuited is not None
    np.testing.assert_allclose(by_steps.component_norms, taken_apart.component_norms, rtol=1e-10)
    np.testing.assert_allclose(by_steps.parameters.bias, taken_apart.parameters.bias, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(by_steps.parameters.cosine, taken_apart.parameters.cosine, rtol=1e-10)


def test_a_linear_recurrence_by_hand() -> None:
    """h_t = x_t + a h_{t-1}, loss h_s: dL/dh_{s-k} = a^k / B."""

    class Geometric(nn.Module):
        def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            outputs = []
            for x in inputs:
                state = x + 0.5 * state
                outputs.append(state)
            return torch.stack(outputs), state

        def initial_state(self, batch: int) -> Tensor:
            return torch.zeros(batch, 1)

    inputs = torch.randn(6, 2, 1)
    found = lag_gradients(Geometric(), lambda o, t: (o - t)[..., 0], inputs, inputs, [5, 2])
    expected = 0.5 ** np.arange(1, 7) / 2
    np.testing.assert_allclose(found.norms[1], np.stack([expected, expected], axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.norms[0, :3, 0], expected[:3], rtol=1e-6)
    assert np.isnan(found.norms[0, 3:]).all()
    np.testing.assert_allclose(found.kept_of_mean, np.cumsum(expected), rtol=1e-6)
    assert found.components == ("state0_0",)


def truncated_gradient(model: Any, loss: Any, inputs: Tensor, targets: Tensor, positions: list[int], K: int) -> Tensor:
    """Of the mean loss at the positions, with respect to the recurrent layers, through K steps each: autograd's."""
    parameters = list(model.rnn.parameters())
    total = torch.zeros(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)
    for position in positions:
        start = max(position + 1 - K, 0)
        state = model.initial_state(inputs.shape[1])
        if start:
            _, state = model(inputs[:start], state)
        outputs, _ = model(inputs[start : position + 1], detach(state))
        value = loss(outputs[-1:], targets[position : position + 1]).mean()
        total += torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)]) / len(positions)
    return total


@pytest.mark.parametrize("cell", CELLS)
def test_measured_bias_is_that_of_autograds_full_and_truncated_gradients(cell: str, loss: Any, way: str) -> None:
    model, (inputs, targets) = network(cell=cell, layers=2), symbols(10)
    positions = [6, 9]
    found = lag_gradients(model, loss, inputs, targets, positions, measured=True).parameters
    gradients = [truncated_gradient(model, loss, inputs, targets, positions, K) for K in range(1, 11)]
    full = gradients[-1]
    bias = [float((g - full).norm() / full.norm()) for g in gradients]
    np.testing.assert_allclose(found.norm, float(full.norm()), rtol=1e-10)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-10, atol=1e-14, err_msg=way)
    cosine = [float(nn.functional.cosine_similarity(g, full, dim=0)) for g in gradients]
    np.testing.assert_allclose(found.cosine, cosine, rtol=1e-10)
    assert found.names == tuple(f"rnn.{name}" for name, _ in model.rnn.named_parameters())


def drawn(weights: np.ndarray) -> tuple[list[int], list[int]]:
    """Positions and streams that a resample drew."""
    counts = [np.round(weights.sum(axis=axis) * weights.shape[1 - axis]).astype(int) for axis in (1, 0)]
    return tuple(list(np.repeat(np.arange(len(count)), count)) for count in counts)  # type: ignore[return-value]


def test_a_resample_is_a_probe_of_what_it_drew(loss: Any, way: str) -> None:
    model, (inputs, targets) = network(layers=2), symbols(10)
    positions = np.array([5, 7, 9])
    weights = resampling_weights(4, 3, 3, np.random.default_rng(5))
    found = lag_gradients(model, loss, inputs, targets, list(positions), weights=weights)
    for resample, of_resample in enumerate(weights):
        chosen, streams = drawn(of_resample)
        parts = inputs[:, streams], targets[:, streams]
        again = lag_gradients(model, loss, *parts, list(positions[chosen]))
        lags = positions[chosen].min() + 1  # beyond, the mean is over the positions left, with their own weights
        np.testing.assert_allclose(
            found.resampled_kept_of_mean[resample, :lags], again.kept_of_mean[:lags], rtol=1e-10, err_msg=way
        )


def test_resampled_measured_bias_is_close_to_that_of_what_was_drawn(loss: Any) -> None:
    """Estimated from random projections: within some percent, and without bias."""
    model, (inputs, targets) = network(hidden=8), symbols(12, batch=16)
    weights = resampling_weights(20, 2, 16, np.random.default_rng(6))
    options = {"measured": True, "weights": weights, "generator": torch.Generator().manual_seed(0)}
    found = lag_gradients(model, loss, inputs, targets, [8, 11], **options).parameters
    ratios = []
    for resample, of_resample in enumerate(weights):
        chosen, streams = drawn(of_resample)
        again = lag_gradients(
            model, loss, inputs[:, streams], targets[:, streams], [[8, 11][p] for p in chosen], measured=True
        )
        ratios.append(found.resampled_bias[resample, :6] / again.parameters.bias[:6])
    assert np.abs(np.log(ratios)).max() < 0.3
    assert abs(np.log(ratios).mean()) < 0.03


def test_where_streams_cannot_be_told_apart_the_measured_bias_is_not_resampled(loss: Any) -> None:
    weights = resampling_weights(2, 1, 3, np.random.default_rng(0))
    found = lag_gradients(OfCells(), loss, *symbols(6), [5], measured=True, weights=weights)
    assert found.resampled_kept_of_mean.shape == (2, 6)
    assert found.parameters.resampled_bias is None
    assert set(found.parameters.names) == {n for n, _ in OfCells().named_parameters() if "decoder" not in n}


def test_the_size_of_a_segment_and_what_is_kept_change_nothing(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (inputs, targets) = network(cell="gru", layers=2), symbols(20)
    weights = resampling_weights(3, 3, 3, np.random.default_rng(0))

    def measure() -> LagGradients:
        generator = torch.Generator().manual_seed(0)
        options = {"measured": True, "weights": weights, "generator": generator}
        return lag_gradients(model, loss, inputs, targets, [13, 15, 19], **options)

    whole = measure()
    monkeypatch.setattr(analytic, "SEGMENT", 3 * 3 * 8 * 4)  # four lags
    monkeypatch.setattr(analytic, "KEPT_GATES", 0)
    monkeypatch.setattr(measured, "ROWS", 40)  # two or three rows
    parts = measure()
    assert_same(parts, whole, 1e-12)
    np.testing.assert_allclose(parts.resampled_kept_of_mean, whole.resampled_kept_of_mean, rtol=1e-12)
    np.testing.assert_allclose(parts.parameters.bias, whole.parameters.bias, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(parts.parameters.resampled_bias, whole.parameters.resampled_bias, rtol=1e-9, atol=1e-15)


def test_positions_are_put_in_order_with_their_weights(loss: Any, way: str) -> None:
    model, (inputs, targets) = network(), symbols(9)
    weights = resampling_weights(3, 2, 3, np.random.default_rng(0))
    ordered = lag_gradients(model, loss, inputs, targets, [4, 8], weights=weights)
    reverse = lag_gradients(model, loss, inputs, targets, [8, 4], weights=weights[:, ::-1])
    assert_same(reverse, ordered, 1e-12)
    np.testing.assert_array_equal(reverse.weights, ordered.weights)
    np.testing.assert_allclose(reverse.resampled_kept_of_mean, ordered.resampled_kept_of_mean, rtol=1e-12, err_msg=way)


def test_what_is_kept_of_a_probe_does_not_grow_with_its_positions(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all gradients at all lags, only those of a segment are alive at once."""
    monkeypatch.setattr(analytic, "SEGMENT", 1)  # a lag
    model, (inputs, targets) = network(layers=2), symbols(40)
    alive: list[weakref.ref[Tensor]] = []
    most = 0
    whole = analytic.LagSums.add

    def add(sums: Any, component: int, row: int, part: Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(part.untyped_storage()))
        most = max(most, sum(storage() is not None for storage in alive))
        whole(sums, component, row, part)

    monkeypatch.setattr(analytic.LagSums, "add", add)
    lag_gradients(model, loss, inputs, targets, list(range(30, 40)))
    assert len(alive) == 4 * 40
    assert most <= 8


def test_several_positions_average_what_single_ones_give(loss: Any, way: str) -> None:
    model = network(cell="gru", layers=2)
    inputs, targets = symbols(9)
    both = lag_gradients(model, loss, inputs, targets, [8, 4])
    early, late = (lag_gradients(model, loss, inputs, targets, [position]) for position in (4, 8))
    np.testing.assert_allclose(both.norms, np.concatenate([early.norms, late.norms]), rtol=1e-12, err_msg=way)
    np.testing.assert_allclose(
        average_norms(both.norms),
        [np.nanmean([early.norms[0, lag].mean(), late.norms[0, lag].mean()]) for lag in range(9)],
        rtol=1e-12,
    )


def test_burn_in_is_the_same_as_starting_in_the_state_after_it(loss: Any, way: str) -> None:
    model = network()
    inputs, targets = symbols(12)
    _, state = model(inputs[:5], model.initial_state(3))
    burnt = lag_gradients(model, loss, inputs, targets, [6], burn_in=5)
    started = lag_gradients(model, loss, inputs[5:], targets[5:], [6], state=state)
    np.testing.assert_allclose(burnt.norms, started.norms, rtol=1e-12, err_msg=way)


@pytest.mark.parametrize("training", [True, False])
def test_a_probe_leaves_the_model_as_it_was_and_has_no_dropout(training: bool, loss: Any, way: str) -> None:
    model = network(layers=2, dropout=0.5).train(training)
    inputs, targets = symbols(7)
    first, second = (lag_gradients(model, loss, inputs, targets, [6], measured=True) for _ in range(2))
    np.testing.assert_array_equal(first.norms, second.norms, err_msg=way)
    assert model.training is training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert "forward" not in vars(model.rnn)


def test_a_model_whose_layers_someone_else_stands_in_for_is_left_alone(loss: Any) -> None:
    model, (inputs, targets) = network(), symbols(5)
    expected = lag_gradients(model, loss, inputs, targets, [4])
    original = model.rnn.forward
    model.rnn.forward = lambda *arguments: original(*arguments)
    assert_same(lag_gradients(model, loss, inputs, targets, [4]), expected, 1e-12)
    assert "forward" in vars(model.rnn)


@given(window=st.integers(2, 200), data=st.data())
def test_positions_are_evenly_spaced_between_tau_and_the_windows_last_step(window: int, data: st.DataObject) -> None:
    tau = data.draw(st.integers(1, window - 1))
    count = data.draw(st.integers(1, window - tau))
    positions = loss_positions(window, tau, count)
    assert len(positions) == count
    assert positions[-1] == window - 1
    assert positions[0] >= (tau if count > 1 else window - 1)
    assert len(set(np.diff(positions))) <= 1


def test_a_position_outside_the_window_is_refused(loss: Any) -> None:
    inputs, targets = symbols(5)
    with pytest.raises(ConfigError, match=r"positions \(=3\) must lie in the window, 0..2"):
        lag_gradients(network(), loss, inputs, targets, [3], burn_in=2)


class OfAnotherShape(Elman):
    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, after = super().forward(inputs, state)
        return outputs.swapaxes(0, 1) if self.wrong == "outputs" else outputs, after

    def initial_state(self, batch: int) -> Any:
        state = super().initial_state(batch)
        return {"number": 0, "a number in a tuple": (state, 1), "axes": state.swapaxes(0, 1)}.get(self.wrong, state)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("number", r"state must be a tensor, or a tuple, list or dict of tensors, not int"),
        ("a number in a tuple", r"state must be a tensor, or a tuple, list or dict of tensors, not int"),
        ("axes", r"state \(=\(3, 1, 4\) torch.float64\) must be of .* shape \(L, B, H\) or \(B, H\), B = 3"),
        ("outputs", r"outputs \(=\(3, 1\)\) must have the axes \(T, B\) of the inputs first, \(1, 3\)"),
    ],
)
def test_a_model_that_keeps_to_no_protocol_is_told_what_was_expected(wrong: str, message: str, loss: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        lag_gradients(OfAnotherShape(wrong), loss, *symbols(5), [4])


@pytest.mark.usefixtures("way")
def test_a_loss_of_another_shape_is_told_what_was_expected(loss: Any) -> None:
    with pytest.raises(ConfigError, match=r"loss \(=\(\)\) must have the shape \(T, B\) of its targets, \(1, 3\)"):
        lag_gradients(network(), lambda outputs, targets: loss(outputs, targets).mean(), *symbols(5), [4])


def test_a_gradient_that_is_not_finite_is_no_absent_lag(loss: Any, way: str) -> None:
    model = network()
    with torch.no_grad():
        model.rnn.weight_hh_l0[0, 0] = torch.nan
    inputs, targets = symbols(6)
    measured = lag_gradients(model, loss, inputs, targets, [3, 5], measured=True)
    assert np.isinf(measured.norms[0, :4]).all()
    assert np.isnan(measured.norms[0, 4:]).all()
    assert not np.isfinite(average_norms(measured.norms)).any()
    assert not np.isfinite(measured.losses).any()
    assert np.isnan(measured.parameters.bias[:-1]).all(), way


def test_a_gradient_that_overflows_has_infinite_norm(way: str) -> None:
    model = network(cell="rnn_relu").float()
    with torch.no_grad():
        model.rnn.weight_hh_l0.fill_(1e6)
    targets = symbols(30)[1]
    found = lag_gradients(model, lambda o, _: o[..., 0] * 1e-30, torch.zeros_like(targets), targets, [29])
    assert np.isinf(found.norms[0, -1]).any(), way
    assert not (np.isfinite(found.norms) & (found.norms > 1e100)).any()


def test_a_gradient_of_zero_tells_nothing_of_the_bias(way: str) -> None:
    inputs, targets = symbols(6)
    found = lag_gradients(network(), lambda o, _: o[..., 0] * 0, inputs, targets, [5], measured=True)
    assert np.isnan(found.parameters.bias).all(), way


def test_only_the_losses_differentiated_are_decoded(loss: Any, way: str) -> None:
    model, steps = network(), []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: steps.append(len(output)))
    lag_gradients(model, loss, *symbols(9), [3, 5], burn_in=3)
    assert steps == {"analytic": [2], "unrolled": [1, 1]}[way]


def test_steps_by_autograd_use_torchs_own_layers_and_put_the_library_back(
    loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    force_unrolled(monkeypatch)
    before, model = torch.backends.mkldnn.enabled, network()
    within: list[bool] = []
    model.rnn.register_forward_hook(lambda *_: within.append(bool(torch.backends.mkldnn.enabled)))
    lag_gradients(model, loss, *symbols(5), [3], burn_in=1)
    assert within == [before] + [False] * 4
    assert torch.backends.mkldnn.enabled == before


def test_vanishing_adjoints_are_zero_and_never_subnormal(loss: Any, way: str) -> None:
    model = network(cell="rnn_tanh").float()
    with torch.no_grad():
        for parameter in model.rnn.parameters():
            parameter.mul_(1e-6)
    found = lag_gradients(model, loss, *symbols(12), [11]).component_norms
    smallest = float(torch.finfo(torch.float32).tiny)
    assert (found == 0).any(), way
    assert (found[found > 0] >= smallest).all()
