from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atbptt.errors import ConfigError
from atbptt.probes.bias import average_norms, resampling_weights
from atbptt.probes.gradients import lag_gradients
from tests.helpers.probing import Elman, assert_same, network, symbols


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


def test_positions_are_put_in_order_with_their_weights(loss: Any, way: str) -> None:
    model, (inputs, targets) = network(), symbols(9)
    weights = resampling_weights(3, 2, 3, np.random.default_rng(0))
    ordered = lag_gradients(model, loss, inputs, targets, [4, 8], weights=weights)
    reverse = lag_gradients(model, loss, inputs, targets, [8, 4], weights=weights[:, ::-1])
    assert_same(reverse, ordered, 1e-12)
    np.testing.assert_array_equal(reverse.weights, ordered.weights)
    np.testing.assert_allclose(reverse.resampled_kept_of_mean, ordered.resampled_kept_of_mean, rtol=1e-12, err_msg=way)


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
def test_a_model_that_keeps_to_no_protocol_is_reported_with_what_was_expected(
    wrong: str, message: str, loss: Any
) -> None:
    with pytest.raises(ConfigError, match=message):
        lag_gradients(OfAnotherShape(wrong), loss, *symbols(5), [4])


@pytest.mark.usefixtures("way")
def test_a_loss_of_another_shape_is_reported_with_what_was_expected(loss: Any) -> None:
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
