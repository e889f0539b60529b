from typing import Any

import numpy as np
import torch

from atbptt.probes.bias import resampling_weights
from atbptt.probes.gradients import lag_gradients
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
    assert found.components == ("state0_0", "state1_0", "state2_0")
    assert set(found.parameters.names) == {n for n, _ in OfCells().named_parameters() if "decoder" not in n}


def test_a_gradient_of_zero_tells_nothing_of_the_bias(way: str) -> None:
    inputs, targets = symbols(6)
    found = lag_gradients(network(), lambda o, _: o[..., 0] * 0, inputs, targets, [5], measured=True)
    assert np.isnan(found.parameters.bias).all(), way
