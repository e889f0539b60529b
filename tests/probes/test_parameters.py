from typing import Any

import numpy as np
import pytest
import torch

from atbptt.probes import parameters
from atbptt.probes.bias import resampling_weights
from atbptt.probes.gradients import lag_gradients
from atbptt.probes.parameters import GradientNoise
from tests.helpers.probing import OfCells, network, symbols


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
    options = {"scheme": "original", "weights": weights, "generator": torch.Generator().manual_seed(0)}
    found = lag_gradients(model, loss, inputs, targets, [8, 11], **options).parameters
    ratios = []
    for resample, of_resample in enumerate(weights):
        chosen, streams = drawn(of_resample)
        again = lag_gradients(
            model, loss, inputs[:, streams], targets[:, streams], [[8, 11][p] for p in chosen], scheme="original"
        )
        ratios.append(found.resampled_bias[resample, :6] / again.parameters.bias[:6])
    assert np.abs(np.log(ratios)).max() < 0.3
    assert abs(np.log(ratios).mean()) < 0.03


def test_where_streams_cannot_be_told_apart_the_measured_bias_is_not_resampled(loss: Any) -> None:
    weights = resampling_weights(2, 1, 3, np.random.default_rng(0))
    found = lag_gradients(OfCells(), loss, *symbols(6), [5], scheme="original", weights=weights)
    assert found.resampled_kept_of_mean.shape == (2, 6)
    assert found.parameters.resampled_bias is None
    assert found.components == ("state0_0", "state1_0", "state2_0")
    assert set(found.parameters.names) == {n for n, _ in OfCells().named_parameters() if "decoder" not in n}


def test_a_gradient_of_zero_tells_nothing_of_the_bias(way: str) -> None:
    inputs, targets = symbols(6)
    found = lag_gradients(network(), lambda o, _: o[..., 0] * 0, inputs, targets, [5], scheme="original")
    assert np.isnan(found.parameters.bias).all(), way


def test_the_noise_is_that_of_single_losses_by_hand(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many projections the estimate is close to what autograd says, loss by loss."""
    monkeypatch.setattr(parameters, "FEW_SKETCHES", 2**15)
    model, (inputs, targets), positions = network(layers=2), symbols(6, batch=4), [3, 5]
    found = lag_gradients(model, loss, inputs, targets, positions, scheme="tf", noise=True).parameters
    own = np.array(
        [[truncated(model, loss, inputs, targets, position, stream) for stream in range(4)] for position in positions]
    )  # (P, B, W, n)
    means = own.cumsum(axis=2) / np.arange(1, 7)[:, None]  # under tf, losses see 1..K steps
    squares = (means**2).sum(axis=-1)
    noise = found.noise
    np.testing.assert_allclose(noise.square, squares.mean(axis=(0, 1)), rtol=0.05)
    np.testing.assert_allclose(noise.spread, squares.mean(axis=0).std(axis=0, ddof=1), rtol=0.1)
    of_streams, full = means.mean(axis=0), own[:, :, -1].mean(axis=0)  # (B, W, n), (B, n)
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    signal = np.mean([(of_streams[a] * of_streams[b]).sum(axis=-1) for a, b in pairs], axis=0)
    along = np.mean([(full[a] * of_streams[b]).sum(axis=-1) for a, b in pairs], axis=0)
    scale = 0.02 * noise.square
    assert (np.abs(noise.signal - signal) < scale).all()
    assert (np.abs(noise.along - along) < np.sqrt(scale * scale[-1])).all()
    assert (noise.streams, list(noise.losses)) == (4, [1, 2, 3, 4, 5, 6])


def truncated(model: Any, loss: Any, inputs: Any, targets: Any, position: int, stream: int) -> list[np.ndarray]:
    """The gradient of one loss by the recurrent parameters, backpropagated through 1..6 steps."""
    inputs, targets = inputs[:, stream : stream + 1], targets[:, stream : stream + 1]
    found = []
    for K in range(1, 7):
        first = max(0, position + 1 - K)
        before = None
        if first:
            with torch.no_grad():
                before = model(inputs[:first], None)[1]
        outputs, _ = model(inputs[first : position + 1], before)
        value = loss(outputs[-1:], targets[position : position + 1]).mean()
        gradients = torch.autograd.grad(value, list(model.rnn.parameters()))
        found.append(torch.cat([each.flatten() for each in gradients]).numpy())
    return found


def test_signal_and_noise_of_an_update_by_hand() -> None:
    numbers = (np.array(each) for each in ([10.0, 20.0, 5.0], [1.0, 1.0, 1.0], [4.0, 0.0, 6.0], [1.0, 1.0, 1.0]))
    noise = GradientNoise(3, np.array([1, 2, 3]), np.array([1, 2, 3]), *numbers)
    np.testing.assert_allclose(noise.of_update, [2.0, 20 / 6, 0.0])
    np.testing.assert_array_equal(noise.signal_to_noise, [2.0, 0.0, np.inf])
    lost = GradientNoise(3, np.ones(1), np.ones(1), np.array([9.0]), np.ones(1), np.array([-2.0]), np.ones(1))
    assert lost.signal_to_noise == [0.0]  # more noise than signal, by chance


def test_one_stream_does_not_tell_signal_from_noise(loss: Any) -> None:
    found = lag_gradients(network(), loss, *symbols(6, batch=1), [3, 5], scheme="tf", noise=True).parameters.noise
    assert np.isfinite(found.square).all()
    assert np.isnan([found.spread, found.signal, found.along, found.signal_to_noise]).all()
