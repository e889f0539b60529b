import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.models.networks import RecurrentNetwork
from atbptt.models.recurrent import halves
from atbptt.models.states import detach
from atbptt.probes import adjoint, autograd, parameters
from atbptt.probes.adjoint import UnsuitedError
from atbptt.probes.bias import resampling_weights
from atbptt.probes.gradients import lag_gradients
from atbptt.probes.lags import ProbeWindow
from tests.helpers.probing import CELLS, Elman, OfCells, assert_same, network, norms_by_hand, symbols

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("layers", "scheme"), [(1, "tf"), (3, "original-buffer")])
@pytest.mark.parametrize("cell", CELLS)
def test_both_ways_give_the_same(
    cell: str, layers: int, scheme: str, dtype: torch.dtype, rtol: float, device: str, both: Any, loss: Any
) -> None:
    model = network(cell=cell, layers=layers, hidden=16).to(device=device, dtype=dtype)
    inputs, targets = (part.to(device) for part in symbols(30))
    by_layers, by_autograd = both(model, loss, inputs, targets, [11, 12, 19, 24], burn_in=5, scheme=scheme)
    # Where phi is below 1e-4 of the largest, a single precision number knows less than five digits of it.
    atol = 1e-4 * rtol * np.nanmax(by_autograd.norms)
    np.testing.assert_allclose(by_layers.norms, by_autograd.norms, rtol=rtol, atol=atol)
    np.testing.assert_allclose(by_layers.component_norms, by_autograd.component_norms, rtol=rtol, atol=atol)
    np.testing.assert_allclose(by_layers.kept_of_mean, by_autograd.kept_of_mean, rtol=rtol)
    assert by_layers.parameters.names == by_autograd.parameters.names
    np.testing.assert_allclose(by_layers.parameters.norm, by_autograd.parameters.norm, rtol=rtol)
    np.testing.assert_allclose(by_layers.parameters.bias, by_autograd.parameters.bias, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(by_layers.parameters.cosine, by_autograd.parameters.cosine, rtol=10 * rtol)
    of_steps = by_layers.parameters.bias_of_steps, by_autograd.parameters.bias_of_steps
    np.testing.assert_allclose(*of_steps, rtol=rtol, atol=rtol)


class StateInADict(Elman):
    """The order of the state's parts is not that of the module's."""

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, (h, c) = super().forward(inputs, (state["h"], state["c"]))
        return outputs, {"c": c, "h": h}

    def initial_state(self, batch: int) -> Any:
        h, c = super().initial_state(batch)
        return {"c": c, "h": h}


def by_name(model: Any, encoded: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The module's arguments are given by name, its state in a list, and its outputs are changed in place."""
    hidden, state = model.rnn(input=encoded, hx=list(state))
    return model.decoder(hidden.mul_(2.0)), state


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


SUITED: dict[str, Callable[[], nn.Module]] = {
    "plain": Elman,
    "without biases": lambda: Elman(kind=nn.LSTM, num_layers=2, bias=False),
    "state in a dict": lambda: StateInADict(kind=nn.LSTM),
    "by name": lambda: Elman(by_name, nn.LSTM),
    "halves": Normed,
}


@pytest.mark.parametrize("what", SUITED)
def test_a_users_model_around_one_module_is_taken_apart(what: str, both: Any, loss: Any) -> None:
    model, (inputs, targets) = SUITED[what](), symbols(12)
    by_layers, by_autograd = both(model, loss, inputs, targets, [5, 9], burn_in=2, scheme="original")
    assert (by_layers.unsuited, by_autograd.unsuited) == (None, "")
    assert_same(by_layers, by_autograd, 1e-10)
    np.testing.assert_allclose(by_layers.parameters.bias, by_autograd.parameters.bias, rtol=1e-9, atol=1e-12)


def fed_the_state(model: Any, encoded: Tensor, state: Any) -> Any:
    return model.plain(encoded * state[0].mean(dim=-1, keepdim=True), state)


def reads_the_state(model: Any, encoded: Tensor, state: Any) -> Any:
    outputs, after = model.plain(encoded, state)
    return outputs + state[0].sum(dim=-1, keepdim=True), after


def reads_the_cell(model: Any, encoded: Tensor, state: Any) -> Any:
    outputs, (h, c) = model.plain(encoded, state)
    return outputs + c.sum(dim=-1, keepdim=True), (h, c)


def changes_the_state(model: Any, encoded: Tensor, state: Any) -> Any:
    outputs, after = model.plain(encoded, state)
    return outputs, 0.9 * after


def gives_no_state(model: Any, encoded: Tensor, state: Any) -> Any:
    hidden, after = model.rnn(encoded)
    return model.decoder(hidden + state), after


def outputs_first(model: Any, encoded: Tensor, state: Any) -> Any:
    """The outputs of a step are read off the state before it."""
    before = []
    for step in encoded.split(1):
        before.append(state)
        _, state = model.rnn(step, state)
    return model.decoder(torch.cat(before)), state


class Another(nn.GRU):
    """Derived from one of torch's: it may do anything."""


def tied() -> nn.Module:
    """Two layers share a matrix: the gradient of it is not the sum of squares of two."""
    model = Elman(num_layers=2)
    model.rnn.weight_hh_l1 = model.rnn.weight_hh_l0
    return model


def weight_normed() -> nn.Module:
    model = Elman()
    nn.utils.parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    return model


UNSUITED: dict[str, Callable[[], nn.Module]] = {
    "shared parameters": tied,
    "a matrix made of others": weight_normed,
    "outputs before the state": lambda: Elman(outputs_first),
    "inputs depend on the state": lambda: Elman(fed_the_state),
    "outputs depend on the state": lambda: Elman(reads_the_state),
    "outputs depend on the cell": lambda: Elman(reads_the_cell, nn.LSTM),
    "state is changed": lambda: Elman(changes_the_state),
    "run twice": lambda: Elman(lambda model, encoded, state: model.plain(encoded, model.plain(encoded, state)[1])),
    "not given the state": lambda: Elman(gives_no_state),
    "a class of its own": lambda: Elman(kind=Another),
    "cells": OfCells,
}


@pytest.mark.parametrize("why", UNSUITED)
def test_what_is_more_than_one_module_is_run_step_by_step(why: str, loss: Any) -> None:
    model, (inputs, targets) = UNSUITED[why]().requires_grad_(False), symbols(8)
    state = model.initial_state(3)
    found = lag_gradients(model, loss, inputs, targets, [7], scheme="original")
    np.testing.assert_allclose(found.norms, norms_by_hand(model, loss, inputs, targets, [7], state), rtol=1e-10)
    assert found.unsuited is not None
    assert 0 <= found.parameters.bias[-1] < found.parameters.bias[0]

    window = ProbeWindow(halves(model), loss, inputs, targets, detach(state), [7])
    with pytest.raises(UnsuitedError):
        adjoint.loss_gradients(window, adjoint.record(window))


def test_the_size_of_a_segment_and_what_is_kept_change_nothing(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (inputs, targets) = network(cell="gru", layers=2), symbols(20)
    options = {"scheme": "original", "weights": resampling_weights(3, 3, 3, np.random.default_rng(0))}
    found = []
    for segment, gates, rows in ((adjoint.SEGMENT, adjoint.KEPT_GATES, parameters.SUMMED), (3 * 3 * 8 * 4, 1000, 40)):
        monkeypatch.setattr(adjoint, "SEGMENT", segment)  # four lags
        monkeypatch.setattr(adjoint, "KEPT_GATES", gates)
        monkeypatch.setattr(parameters, "SUMMED", rows)  # one or two
        generator = torch.Generator().manual_seed(0)
        found.append(lag_gradients(model, loss, inputs, targets, [13, 15, 19], generator=generator, **options))
    whole, parts = found
    assert_same(parts, whole, 1e-12)
    np.testing.assert_allclose(parts.resampled_kept_of_mean, whole.resampled_kept_of_mean, rtol=1e-12)
    np.testing.assert_allclose(parts.parameters.bias, whole.parameters.bias, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(parts.parameters.resampled_bias, whole.parameters.resampled_bias, rtol=1e-9, atol=1e-15)


def test_parameters_taken_some_at_a_time_give_the_same_by_autograd(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for summed in (autograd.SUMMED, 500):  # all, and about 38 of 176 at a time
        monkeypatch.setattr(autograd, "SUMMED", summed)
        found.append(lag_gradients(OfCells(), loss, *symbols(12), [7, 11], scheme="tf").parameters)
    np.testing.assert_allclose(found[1].bias, found[0].bias, rtol=1e-12)
    np.testing.assert_allclose(found[1].norm, found[0].norm, rtol=1e-12)


def test_what_is_kept_of_a_probe_does_not_grow_with_its_positions(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all gradients at all lags, only those of a segment are alive at once."""
    monkeypatch.setattr(adjoint, "SEGMENT", 1)  # a lag
    model, (inputs, targets) = network(layers=2), symbols(40)
    alive: list[weakref.ref[Tensor]] = []
    most = 0
    whole = adjoint.LagSums.add

    def add(self: Any, component: int, row: int, part: Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(part.untyped_storage()))
        most = max(most, sum(storage() is not None for storage in alive))
        whole(self, component, row, part)

    monkeypatch.setattr(adjoint.LagSums, "add", add)
    lag_gradients(model, loss, inputs, targets, list(range(30, 40)))
    assert len(alive) == 4 * 40
    assert most <= 8


def test_a_model_whose_layers_someone_else_stands_in_for_is_left_alone(loss: Any) -> None:
    model, (inputs, targets) = network(), symbols(5)
    expected = lag_gradients(model, loss, inputs, targets, [4])
    original = model.rnn.forward
    model.rnn.forward = lambda *arguments: original(*arguments)
    assert_same(lag_gradients(model, loss, inputs, targets, [4]), expected, 1e-12)
    assert "forward" in vars(model.rnn)
