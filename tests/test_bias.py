from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atbptt.bias import (
    DECAY_ESTIMATORS,
    absolute_error,
    average_norms,
    estimate_bias,
    log_decay_rate,
    relative_bias,
    truncation_length,
)
from atbptt.errors import ConfigError

phis = st.lists(st.floats(1e-12, 1e3), min_size=4, max_size=30).map(np.array)


def test_golden_estimates(golden: Any) -> None:
    cases, arrays = golden("truncation_estimates")
    for case in cases:
        norms = arrays[f"input{case['input']}_gradient_norm"]
        found = estimate_bias(
            norms,
            arrays[f"input{case['input']}_cumulative_norm"],
            case["tau"],
            estimator=case["method"],
            fit_from=case["fit_from"],
        )
        expected = -np.inf if case["log_beta"] is None else case["log_beta"]
        np.testing.assert_allclose(found.log_beta, expected, rtol=1e-9)
        prefix = f"case{case['case']}"
        np.testing.assert_allclose(found.error, arrays[f"{prefix}_absolute_error"], rtol=1e-9)
        np.testing.assert_allclose(found.bias, arrays[f"{prefix}_relative_error"], rtol=1e-9)
        lengths = [found.truncation(delta) or len(norms) for delta in case["deltas"]]
        assert lengths == case["truncation"], case


@pytest.mark.parametrize("estimator", DECAY_ESTIMATORS)
@pytest.mark.parametrize("fit_from", [0, None])
def test_a_geometric_decay_by_hand(estimator: str, fit_from: int | None) -> None:
    """phi_k = 2^-k: E(K) = 2^-K, whatever is summed and whatever extrapolated."""
    phi = 0.5 ** np.arange(1, 13)
    assert log_decay_rate(phi, 6, estimator, fit_from) == pytest.approx(math.log(0.5))
    np.testing.assert_allclose(absolute_error(phi, 6, math.log(0.5), 15), 0.5 ** np.arange(1, 16))


def test_relative_bias_by_hand() -> None:
    error, kept = np.array([4.0, 2.0, 1.0]), np.array([3.0, 5.0, 5.0])
    np.testing.assert_allclose(relative_bias(error, kept), [1.0, 0.5, 0.25])  # the lower bound is 5 - 1
    assert [truncation_length(relative_bias(error, kept), d) for d in (1.0, 0.9, 0.5, 0.2)] == [1, 2, 2, None]


def test_a_gradient_without_positive_lower_bound_has_infinite_bias() -> None:
    assert np.isinf(relative_bias(np.array([4.0, 3.0]), np.array([1.0, 2.0]))).all()


def test_growing_gradients_have_infinite_error_and_no_length() -> None:
    """The released code let K collapse to its minimum here."""
    norms = np.linspace(1, 2, 20)[:, None]
    found = estimate_bias(norms, norms[:, 0].cumsum(), 10)
    assert found.log_beta > 0
    assert np.isinf(found.error).all()
    assert found.truncation(1.0) is None


def test_averages_by_hand() -> None:
    norms = np.array([[[1.0, 4.0], [2.0, 2.0]], [[1.0, 4.0], [np.nan, np.nan]]])  # (P, W, B)
    np.testing.assert_allclose(average_norms(norms), [2.5, 2.0])
    np.testing.assert_allclose(average_norms(norms, "geometric"), [2.0, 2.0])


def test_kept_norm_sum_is_the_cumulative_mean_norm() -> None:
    norms = 0.5 ** np.arange(1, 13)[:, None] * np.array([1.0, 3.0])
    by_hand = estimate_bias(norms, norms.mean(axis=1).cumsum(), 6, kept_norm="of_mean")
    np.testing.assert_allclose(estimate_bias(norms, norms[:, 0], 6, kept_norm="sum").bias, by_hand.bias)


@given(phis, st.data())
def test_bias_falls_with_K_and_lengths_grow_as_delta_shrinks(phi: np.ndarray, data: st.DataObject) -> None:
    tau = data.draw(st.integers(1, len(phi) - 1))
    fit_from = data.draw(st.integers(0, len(phi) - 2))
    found = estimate_bias(phi[:, None], phi.cumsum(), tau, fit_from=fit_from, longest=len(phi) + 5)
    if np.isfinite(found.error).all():
        assert (np.diff(found.error) <= 1e-12 * found.error[0]).all()
    lengths = [found.truncation(delta) or np.inf for delta in (1.0, 0.9, 0.5, 0.1)]
    assert lengths == sorted(lengths)


def test_without_signal_the_measured_lags_are_summed_and_nothing_beyond() -> None:
    phi = np.array([1.0, 0.5, 1e-30, 1e-30, 0.0])
    assert log_decay_rate(phi, 2) == -np.inf
    np.testing.assert_allclose(absolute_error(phi, 2, -np.inf, 7), [0.5, 2e-30, 1e-30, 0, 0, 0, 0], rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_probe_that_is_not_finite_says_so(bad: float) -> None:
    norms = np.ones((10, 2))
    norms[3, 1] = bad
    found = estimate_bias(norms, np.ones(10), 5)
    assert not found.finite
    assert found.truncation(1.0) is None
    assert math.isnan(found.bias_at(3))


def test_dead_gradients_need_no_length_but_have_no_lower_bound() -> None:
    found = estimate_bias(np.zeros((10, 2)), np.zeros(10), 5, average="geometric")
    assert found.finite
    assert found.truncation(1.0) is None


def test_unknown_names_and_rows_are_refused() -> None:
    norms = np.ones((10, 2))
    with pytest.raises(ConfigError, match=r"estimator \(=olss\) must be one of ols, max, quantile; did you mean"):
        estimate_bias(norms, norms[:, 0], 5, estimator="olss")
    with pytest.raises(ConfigError, match=r"average \(=median\) must be one of mean, geometric"):
        estimate_bias(norms, norms[:, 0], 5, average="median")
    with pytest.raises(ConfigError, match=r"kept_norm \(=all\) must be one of of_mean, sum"):
        estimate_bias(norms, norms[:, 0], 5, kept_norm="all")
    with pytest.raises(ConfigError, match=r"tau \(=10\) must be at least 1 and smaller than .* \(=10\)"):
        estimate_bias(norms, norms[:, 0], 10, fit_from=0)
