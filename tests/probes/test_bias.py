import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from atbptt.errors import ConfigError
from atbptt.probes.bias import (
    RelativeBias,
    absolute_error,
    average_norms,
    bias_bound,
    log_decay_rate,
    relative_bias,
    resampling_weights,
    truncation_length,
)
from atbptt.probes.settings import DECAY_FITS, ProbeSettings


def settings_of(norms: np.ndarray, tau: int, **options: Any) -> ProbeSettings:
    """Of a probe that found these norms, (P, W, B) or (W, B)."""
    return ProbeSettings(norms.shape[-2], tau, positions=1, **options)


phis = st.lists(st.floats(1e-12, 1e3), min_size=4, max_size=30).map(np.array)


def test_golden_estimates(golden: Any) -> None:
    cases, arrays = golden("truncation_estimates")
    for case in cases:
        norms = arrays[f"input{case['input']}_gradient_norm"]
        found = bias_bound(
            norms,
            arrays[f"input{case['input']}_cumulative_norm"],
            settings_of(norms, case["tau"], decay_fit=case["method"], fit_from=case["fit_from"]),
        )
        # The paper's K is the last lag kept: that of K + 1 steps.
        expected = -np.inf if case["log_beta"] is None else case["log_beta"]
        np.testing.assert_allclose(found.log_beta, expected, rtol=1e-9)
        prefix = f"case{case['case']}"
        np.testing.assert_allclose(found.error[1:], arrays[f"{prefix}_absolute_error"], rtol=1e-9)
        np.testing.assert_allclose(found.values[1:], arrays[f"{prefix}_relative_error"], rtol=1e-9)
        lengths = [max((found.truncation(delta) or len(norms) + 1) - 1, 1) for delta in case["deltas"]]
        assert lengths == case["truncation"], case


@pytest.mark.parametrize("decay_fit", DECAY_FITS)
@pytest.mark.parametrize("fit_from", [0, None])
def test_a_geometric_decay_by_hand(decay_fit: str, fit_from: int | None) -> None:
    """phi_k = 2^-k: E(K) = 2^-(K-1), whatever is summed and whatever extrapolated."""
    phi = 0.5 ** np.arange(1, 13)
    assert log_decay_rate(phi, settings_of(phi[:, None], 6, decay_fit=decay_fit, fit_from=fit_from)) == pytest.approx(
        math.log(0.5)
    )
    np.testing.assert_allclose(absolute_error(phi, 6, math.log(0.5), 15), 0.5 ** np.arange(15))


def test_relative_bias_by_hand() -> None:
    error, kept = np.array([8.0, 4.0, 2.0, 1.0]), np.array([3.0, 5.0, 5.0])
    np.testing.assert_allclose(relative_bias(error, kept), [2.0, 1.0, 0.5, 0.25])  # the lower bound is 5 - 1
    assert [truncation_length(relative_bias(error, kept), d) for d in (1.0, 0.9, 0.5, 0.2)] == [2, 3, 3, None]
    assert np.isinf(relative_bias(np.array([9.0, 4.0, 3.0]), np.array([1.0, 2.0]))).all()  # no positive lower bound


def test_growing_and_dead_gradients_have_no_length() -> None:
    """The released code let K of the growing ones collapse to its minimum."""
    norms = np.linspace(1, 2, 20)[:, None]
    found = bias_bound(norms, norms[:, 0].cumsum(), settings_of(norms, 10))
    assert found.log_beta > 0
    assert np.isinf(found.error).all()
    dead = bias_bound(np.zeros((10, 2)), np.zeros(10), ProbeSettings(10, 5, positions=1, average="geometric"))
    assert dead.finite
    assert found.truncation(1.0) is dead.truncation(1.0) is None


def test_averages_by_hand() -> None:
    norms = np.array([[[1.0, 4.0], [2.0, 2.0]], [[1.0, 4.0], [np.nan, np.nan]]])  # (P, W, B)
    np.testing.assert_allclose(average_norms(norms), [2.5, 2.0])
    np.testing.assert_allclose(average_norms(norms, "geometric"), [2.0, 2.0])
    # A dead stream makes the geometric mean zero where it was drawn.
    weights = np.array([[[1.0, 0.0]], [[0.5, 0.5]]])
    np.testing.assert_array_equal(average_norms(np.array([[[1.0, 0.0]]]), "geometric", weights), [[1.0], [0.0]])


def test_kept_norm_sum_is_the_cumulative_mean_norm() -> None:
    norms = 0.5 ** np.arange(1, 13)[:, None] * np.array([1.0, 3.0])
    by_hand = bias_bound(norms, norms.mean(axis=1).cumsum(), settings_of(norms, 6, kept_norm="of_mean"))
    found = bias_bound(norms, norms[:, 0], settings_of(norms, 6, kept_norm="sum"))
    np.testing.assert_allclose(found.values, by_hand.values)


@given(phis, st.data())
def test_bias_falls_with_K_and_lengths_grow_as_delta_shrinks(phi: np.ndarray, data: st.DataObject) -> None:
    tau = data.draw(st.integers(1, len(phi) - 1))
    fit_from = data.draw(st.integers(0, len(phi) - 2))
    norms = phi[:, None]
    found = bias_bound(norms, phi.cumsum(), settings_of(norms, tau, fit_from=fit_from), longest=len(phi) + 5)
    if np.isfinite(found.error).all():
        assert (np.diff(found.error) <= 1e-12 * found.error[0]).all()
    lengths = [found.truncation(delta) or np.inf for delta in (1.0, 0.9, 0.5, 0.1)]
    assert lengths == sorted(lengths)


def test_without_signal_the_measured_lags_are_summed_and_nothing_beyond() -> None:
    phi = np.array([1.0, 0.5, 1e-30, 1e-30, 0.0])
    assert log_decay_rate(phi, settings_of(phi[:, None], 2)) == -np.inf
    np.testing.assert_allclose(absolute_error(phi, 2, -np.inf, 7), [1.5, 0.5, 2e-30, 1e-30, 0, 0, 0], rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_probe_that_is_not_finite_says_so(bad: float) -> None:
    norms = np.ones((10, 2))
    norms[3, 1] = bad
    found = bias_bound(norms, np.ones(10), settings_of(norms, 5))
    assert not found.finite
    assert found.truncation(1.0) is None
    assert math.isnan(found.at(3))
    assert not bias_bound(np.ones((10, 2)), np.append(np.ones(9), np.inf), settings_of(norms, 5)).finite


def test_resampling_weights_are_products_of_how_often_streams_and_positions_were_drawn() -> None:
    weights = resampling_weights(20000, 3, 4, np.random.default_rng(0))
    assert weights.shape == (20000, 3, 4)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1)
    positions, streams = weights.sum(axis=2), weights.sum(axis=1)
    np.testing.assert_allclose(weights, positions[:, :, None] * streams[:, None, :])
    np.testing.assert_allclose(positions * 3, np.round(positions * 3), atol=1e-12)
    np.testing.assert_allclose(streams * 4, np.round(streams * 4), atol=1e-12)
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 12, atol=0.003)


@pytest.mark.parametrize("average", ["mean", "geometric"])
def test_a_weighted_average_is_that_of_what_was_drawn(average: str) -> None:
    norms = np.random.default_rng(1).uniform(0.1, 2, (2, 5, 3))  # (P, W, B)
    norms[0, 4] = np.nan
    streams = [0, 0, 2]
    weights = np.zeros((2, 2, 3))
    for stream in streams:
        weights[0, :, stream] += 1 / 6
        weights[1, 0, stream] += 1 / 3  # of the position that lacks the last lag only
    found = average_norms(norms, average, weights)
    np.testing.assert_allclose(found[0], average_norms(norms[:, :, streams], average))
    np.testing.assert_allclose(found[1, :4], average_norms(norms[:1, :4, streams], average))
    assert np.isnan(found[1, 4])


@pytest.mark.parametrize(("kept_norm", "decay_fit"), [("of_mean", "ols"), ("sum", "max"), ("sum", "quantile")])
def test_a_resampled_bound_is_the_bound_of_what_was_drawn(kept_norm: str, decay_fit: str) -> None:
    generator = np.random.default_rng(2)
    norms = 0.7 ** np.arange(1, 13)[:, None] * generator.uniform(0.5, 2, (2, 12, 5))
    kept = generator.uniform(1, 2, (3, 12)).cumsum(axis=1)
    settings = settings_of(norms, 8, decay_fit=decay_fit, kept_norm=kept_norm)
    weights = resampling_weights(3, 2, 5, generator)
    found = bias_bound(norms, kept[0], settings, longest=20, weights=weights, resampled_kept_of_mean=kept)
    assert found.resampled.shape == (3, 13)
    for resample, drawn in enumerate(weights):
        positions, streams = (np.round(drawn.sum(axis=axis) * count).astype(int) for axis, count in ((1, 2), (0, 5)))
        taken = np.repeat(np.repeat(norms, positions, axis=0), streams, axis=2)
        again = bias_bound(taken, kept[resample], settings, longest=20)
        np.testing.assert_allclose(found.resampled[resample], again.values[:13])
        for delta in (0.5, 0.03, 0.01, 0.001):  # some lie beyond the window, and the last ones beyond the longest
            assert found._lengths(delta)[resample] == (again.truncation(delta) or np.inf)


def test_a_length_beyond_the_window_has_its_interval_and_its_confidence() -> None:
    phi = 0.5 ** np.arange(1, 13)[:, None] * np.array([1.0, 1.0])
    weights = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    kept = np.array([phi[:, 0].cumsum()] * 2)
    settings = settings_of(phi, 8)
    found = bias_bound(phi[None], kept[0], settings, longest=30, weights=weights, resampled_kept_of_mean=kept)
    length = found.truncation(2**-20)
    assert length is not None
    assert 12 < length < 30
    assert found.interval(2**-20, 0.9) == (length, length)
    assert found.truncation(2**-20, confidence=0.9) == length
    assert found.truncation(2**-40, confidence=0.9) is None


def test_confidence_and_interval_by_hand() -> None:
    resampled = np.array([[1.0, 0.4, 0.1], [1.0, 0.6, 0.4], [0.3, 0.2, 0.1], [1.0, 0.9, 0.8]])
    bias = RelativeBias(np.array([1.0, 0.5, 0.3]), resampled)
    assert bias.truncation(0.5) == 2
    assert bias.truncation(0.5, confidence=0.25) == 1  # one resample of four
    assert bias.truncation(0.5, confidence=0.5) == 2
    assert bias.truncation(0.5, confidence=0.7) == 3
    assert bias.truncation(0.5, confidence=0.8) is None
    assert bias.interval(0.5, 0.5) == (1, 3)  # K(0.5) is 2, 3, 1 and none
    assert bias.interval(0.5, 0.98) == (1, math.inf)
    without_resamples = RelativeBias(bias.values, np.empty((0, 3)))
    for unknown in (without_resamples, RelativeBias(np.full(3, np.nan), resampled)):
        assert np.isnan(unknown.interval(1.0, 0.9)).all()
    with pytest.raises(ConfigError, match=r"confidence \(=0.9\) needs a probe with resamples"):
        without_resamples.truncation(0.5, confidence=0.9)
