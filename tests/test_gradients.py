from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from atbptt.bias import average_norms
from atbptt.errors import ConfigError
from atbptt.gradients import lag_gradients, loss_positions
from atbptt.models import RecurrentNetwork


def network(**options: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    return RecurrentNetwork(5, 5, hidden=4, **options).double()


def symbols(steps: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randint(5, (steps, batch), generator=generator),
        torch.randint(5, (steps, batch), generator=generator),
    )


def test_golden_norms_at_every_lag_stream_and_component(golden: Any, golden_network: Any, loss: Any) -> None:
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
            np.testing.assert_allclose(ours, found[name], rtol=1e-9, err_msg=f"{case} {name}")


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
    np.testing.assert_allclose(found.norms[0], np.stack([expected, expected], axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.norms[1, :3, 0], expected[:3], rtol=1e-6)
    assert np.isnan(found.norms[1, 3:]).all()
    np.testing.assert_allclose(found.kept_of_mean, np.cumsum(expected), rtol=1e-6)
    assert found.components == ("state0_0",)


def test_several_positions_average_what_single_ones_give(loss: Any) -> None:
    model = network(cell="gru", layers=2)
    inputs, targets = symbols(9)
    both = lag_gradients(model, loss, inputs, targets, [4, 8])
    early, late = (lag_gradients(model, loss, inputs, targets, [position]) for position in (4, 8))
    np.testing.assert_allclose(both.norms, np.concatenate([early.norms, late.norms]), rtol=1e-12)
    np.testing.assert_allclose(
        average_norms(both.norms),
        [np.nanmean([early.norms[0, lag].mean(), late.norms[0, lag].mean()]) for lag in range(9)],
        rtol=1e-12,
    )


def test_burn_in_is_the_same_as_starting_in_the_state_after_it(loss: Any) -> None:
    model = network()
    inputs, targets = symbols(12)
    _, state = model(inputs[:5], model.initial_state(3))
    burnt = lag_gradients(model, loss, inputs, targets, [6], burn_in=5)
    started = lag_gradients(model, loss, inputs[5:], targets[5:], [6], state=state)
    np.testing.assert_allclose(burnt.norms, started.norms, rtol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_a_probe_leaves_the_model_as_it_was_and_has_no_dropout(training: bool, loss: Any) -> None:
    model = network(layers=2, dropout=0.5).train(training)
    inputs, targets = symbols(7)
    first, second = (lag_gradients(model, loss, inputs, targets, [6]) for _ in range(2))
    np.testing.assert_array_equal(first.norms, second.norms)
    assert model.training is training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@given(window=st.integers(2, 200), data=st.data())
def test_positions_lie_between_tau_and_the_windows_last_step(window: int, data: st.DataObject) -> None:
    tau = data.draw(st.integers(1, window - 1))
    count = data.draw(st.integers(1, window - tau))
    positions = loss_positions(window, tau, count)
    assert len(positions) == count
    assert positions[-1] == window - 1
    assert positions[0] >= (tau if count > 1 else window - 1)


def test_a_position_outside_the_window_is_refused(loss: Any) -> None:
    inputs, targets = symbols(5)
    with pytest.raises(ConfigError, match=r"positions \(=3\) must lie in the window, 0..2"):
        lag_gradients(network(), loss, inputs, targets, [3], burn_in=2)


def test_a_gradient_that_is_not_finite_is_no_absent_lag(loss: Any) -> None:
    model = network()
    with torch.no_grad():
        model.rnn.weight_hh_l0[0, 0] = torch.nan
    inputs, targets = symbols(6)
    measured = lag_gradients(model, loss, inputs, targets, [3, 5])
    assert np.isinf(measured.norms[0, :4]).all()
    assert np.isnan(measured.norms[0, 4:]).all()
    assert not np.isfinite(average_norms(measured.norms)).any()


def test_only_the_losses_differentiated_are_decoded(loss: Any) -> None:
    model, steps = network(), []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: steps.append(len(output)))
    lag_gradients(model, loss, *symbols(9), [3, 5], burn_in=3)
    assert steps == [1, 1]


def test_a_probe_uses_torchs_own_layers_and_puts_the_library_back(loss: Any) -> None:
    before, model = torch.backends.mkldnn.enabled, network()
    within: list[bool] = []
    model.rnn.register_forward_hook(lambda *_: within.append(bool(torch.backends.mkldnn.enabled)))
    lag_gradients(model, loss, *symbols(5), [3], burn_in=1)
    assert within == [False] * 5
    assert torch.backends.mkldnn.enabled == before
