from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.probes.gradients import lag_gradients
from tests.helpers.modules import D, Decoded, H, message_of
from tests.helpers.probing import force_autograd, network, symbols


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


def test_steps_by_autograd_use_torchs_own_layers_and_put_the_library_back(
    loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    force_autograd(monkeypatch)
    before, model = torch.backends.mkldnn.enabled, network()
    within: list[bool] = []
    model.rnn.register_forward_hook(lambda *_: within.append(bool(torch.backends.mkldnn.enabled)))
    lag_gradients(model, loss, *symbols(5), [3], burn_in=1)
    assert within == [before] + [False] * 4
    assert torch.backends.mkldnn.enabled == before


class Detaching(Decoded):
    def forward(self, inputs: Tensor, state: Any) -> Any:
        return super().forward(inputs, None if state is None else tuple(part.detach() for part in state))


def test_a_model_that_detaches_its_state_is_reported() -> None:
    message = message_of(Detaching(nn.LSTM(D, H)), lambda outputs, _: outputs.sum(-1))
    assert message == "model (=Detaching) must make outputs that depend on its state, which it must not detach"
