from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from atbptt.models.networks import RecurrentNetwork
from atbptt.models.states import State, tensors
from atbptt.windows.update import recur_reweighted


def test_by_hand() -> None:
    """h_t = a h_{t-1} + x_t: the loss h_3 has the gradient f2 f1 a^2 with respect to x_1."""
    a = torch.tensor(0.5, dtype=torch.float64)

    def recur(inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states = []
        for step in inputs:
            state = a * state + step
            states.append(state)
        return torch.stack(states), state

    inputs = torch.ones(3, 1, 1, dtype=torch.float64, requires_grad=True)
    start = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    features, state = recur_reweighted(recur, inputs, start, [3.0, 10.0])
    assert features.flatten().tolist() == [1.5, 1.75, 1.875]
    of_inputs, of_start = torch.autograd.grad(features[2].sum(), [inputs, start], retain_graph=True)
    assert of_inputs.flatten().tolist() == [30 * 0.25, 10 * 0.5, 1.0]
    assert of_start.item() == 30 * 0.125  # nothing is multiplied on the way out of the window
    (of_state,) = torch.autograd.grad(state.sum(), inputs)
    assert of_state.flatten().tolist() == [30 * 0.25, 10 * 0.5, 1.0]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_with_factors_of_1_it_is_the_model_at_once(cell: str) -> None:
    torch.manual_seed(0)
    model = RecurrentNetwork(5, 5, cell=cell, layers=2, hidden=4).double()
    inputs = torch.randint(5, (7, 3))
    found = []
    for recur in (model.recur, lambda *given: recur_reweighted(model.recur, *given, [1.0] * 6)):
        features, state = recur(inputs, model.initial_state(3))
        parameters = [parameter for name, parameter in model.named_parameters() if "decoder" not in name]
        of_parameters = torch.autograd.grad(features.square().sum(), parameters)
        found.append([features, *tensors(state), *of_parameters])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


def test_a_state_of_any_structure_is_reweighted() -> None:
    def recur(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        first, second = state["both"]
        after = {"both": (first + inputs[0], second * 2)}
        return (first + second).unsqueeze(0), after

    start = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    inputs = torch.zeros(3, 1, 1, dtype=torch.float64)
    features, _ = recur_reweighted(recur, inputs, {"both": (start, start)}, [2.0, 5.0])
    (gradient,) = torch.autograd.grad(features[2].sum(), start)
    assert gradient.item() == 10 * (1 + 4)


def test_torchs_layers_are_as_they_were_afterwards() -> None:
    enabled = torch.backends.mkldnn.enabled
    layer = nn.LSTM(2, 3)
    recur_reweighted(layer, torch.ones(2, 1, 2), (torch.zeros(1, 1, 3),) * 2, [1.0])
    assert torch.backends.mkldnn.enabled == enabled
