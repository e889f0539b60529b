from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.probes.bias import average_norms
from atbptt.probes.gradients import lag_gradients
from tests.helpers.modules import D, Decoded, H, message_of
from tests.helpers.probing import force_autograd, network, symbols


def test_golden_norms_at_every_lag_stream_and_component(golden: Any, golden_network: Any, loss: Any, way: str) -> None:
    cases, arrays = golden("gradient_norms")
    for case in cases:
        prefix = f"case{case['case']}_"
        found = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        model = golden_network(case, arrays, "param")
        state = torch.tensor(found["h0"])
        if case["cell"] == "LSTM":
            state = (state, torch.tensor(found["c0"]))
        streams = torch.tensor(found["x"]), torch.tensor(found["y"])
        measured = lag_gradients(model, loss, *streams, [case["seq_len"] - 1], state=state)
        assert measured.components == tuple(case["components"])
        for ours, name in (
            (measured.norms[0], "grad_norm"),
            (np.cumsum(average_norms(measured.norms)), "cum_grad_norm_approx"),
            (measured.kept_of_mean, "cum_grad_norm_of_mean"),
            (measured.component_norms[:, 0], "component_grad_norm"),
            (measured.component_kept_of_mean, "component_cum_grad_norm_of_mean"),
        ):
            np.testing.assert_allclose(ours, found[name], rtol=1e-9, err_msg=f"{case} {name} {way}")


def test_a_gradient_that_is_not_finite_is_no_absent_lag(loss: Any, way: str) -> None:
    model = network()
    with torch.no_grad():
        model.rnn.weight_hh_l0[0, 0] = torch.nan
    inputs, targets = symbols(6)
    measured = lag_gradients(model, loss, inputs, targets, [3, 5], scheme="original")
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


def test_only_the_losses_differentiated_are_decoded(loss: Any, way: str) -> None:
    model, steps = network(), []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: steps.append(len(output)))
    lag_gradients(model, loss, *symbols(9), [3, 5], burn_in=3)
    assert steps == {"adjoint": [2], "autograd": [1, 1]}[way]


def test_vanishing_adjoints_are_zero_and_never_subnormal(loss: Any, way: str) -> None:
    model = network(cell="rnn_tanh").float()
    with torch.no_grad():
        for parameter in model.rnn.parameters():
            parameter.mul_(1e-6)
    found = lag_gradients(model, loss, *symbols(12), [11]).component_norms
    smallest = float(torch.finfo(torch.float32).tiny)
    assert (found == 0).any(), way
    assert (found[found > 0] >= smallest).all()


def test_autograd_uses_torchs_own_layers_and_puts_the_library_back(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
