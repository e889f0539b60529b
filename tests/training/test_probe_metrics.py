from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from atbptt.probes.bias import bias_bound
from atbptt.probes.settings import ProbeSettings
from atbptt.training.experiment import build
from atbptt.training.evaluation import bias_metrics, lag_profiles, position_profiles
from atbptt.windows.prober import Prober
from tests.helpers.measuring import made_measurement

PLAIN = {"measured": False, "resampled": False}


def test_what_is_logged_of_a_probe_by_hand() -> None:
    assert bias_metrics([made_measurement()], K=3) == [
        ("K_1", 0, 2), ("K_1_low", 0, 2), ("K_1_high", 0, 3),
        ("K_0.9", 0, 3), ("K_0.9_low", 0, 2), ("K_0.9_high", 0, 4),
        ("K_0.5", 0, 4), ("K_0.5_low", 0, 4), ("K_0.5_high", 0, math.inf),
        ("K_0.1", 0, math.inf), ("K_0.1_low", 0, math.inf), ("K_0.1_high", 0, math.inf),
        ("log_relative_bias", 0, math.log(0.7)),
        ("K_1_measured", 0, 1), ("K_0.9_measured", 0, 1), ("K_0.5_measured", 0, 2), ("K_0.1_measured", 0, 3),
        ("log_relative_bias_measured", 0, math.log(0.05)),
        ("log_beta", 0, -1.0),
        ("gradient_cosine", 0, 0.9),
    ]  # fmt: skip


def test_the_second_probe_is_replicate_1_and_K_beyond_the_window_has_no_measured_bias() -> None:
    logged = bias_metrics([made_measurement(), made_measurement()], K=9)
    assert [replicate for _, replicate, _ in logged] == [0] * 20 + [1] * 20
    assert ("log_relative_bias_measured", 1, -math.inf) in logged
    assert ("gradient_cosine", 1, 1.0) in logged


def test_profiles_have_the_bias_in_the_rows_of_the_whole_state() -> None:
    profiles = lag_profiles([made_measurement()], "mean")
    assert list(profiles["component"]) == ["all"] * 4 + ["hidden0"] * 4
    assert list(profiles["lag"]) == [1, 2, 3, 4] * 2
    np.testing.assert_array_equal(profiles["relative_bias"][:4], [2.0, 0.95, 0.7, 0.3])
    np.testing.assert_array_equal(profiles["measured_bias"][:4], [0.8, 0.4, 0.05, 0.0])
    np.testing.assert_array_equal(profiles["cosine"][:4], [0.5, 0.8, 0.9, 1.0])
    for column in ("relative_bias", "measured_bias", "cosine"):
        assert np.isnan(profiles[column][4:]).all()


def test_positions_have_the_lags_that_the_window_holds_for_them_by_hand() -> None:
    """Two probes; losses at rows 1 and 3 of a window of 4, two streams."""
    unknown = np.full(2, np.nan)
    norms = np.array([[[2, 8], [1, 4], unknown, unknown], [[4, 4], [2, 2], [1, 0.25], [0, np.inf]]])
    made = made_measurement()
    measurement = replace(made, gradients=replace(made.gradients, norms=norms))
    found = position_profiles([measurement, measurement], [1, 3], "mean")
    assert found["replicate"].tolist() == [0] * 6 + [1] * 6
    assert found["position"].tolist() == [1, 1, 3, 3, 3, 3] * 2
    assert found["lag"].tolist() == [1, 2, 1, 2, 3, 4] * 2
    assert found["phi"].tolist() == [5, 2.5, 4, 2, 0.625, np.inf] * 2
    geometric = position_profiles([measurement], [1, 3], "geometric")["phi"]
    np.testing.assert_allclose(geometric[:5], [4, 2, 4, 2, 0.5], rtol=1e-12)
    assert np.isnan(geometric[5])  # 0 times infinity: known of the lag, and no number


def test_log_beta_is_minus_infinity_where_no_tail_can_be_fitted() -> None:
    made = made_measurement()
    norms = np.array([1.0, 0.5, 0.0, 0.0])[None, :, None]
    bound = bias_bound(norms, np.cumsum(norms.ravel()), ProbeSettings(4, 2, positions=1))
    logged = bias_metrics([replace(made, estimate=replace(made.estimate, bound=bound))], K=1)
    assert ("log_beta", 0, -math.inf) in logged


@pytest.mark.parametrize("average", ["mean", "geometric"])
def test_positions_averaged_are_the_profile_of_the_whole_state(settings: Any, average: str) -> None:
    """At the lags that all positions have; of the others, at those that have them."""
    made = settings("probe.positions=3", "probe.tau=5", "probe.probes=2", f"probe.average={average}")
    task, model, *_ = build(made)
    prober = Prober(made.probe, 0)
    measurements = prober.measure(model, task.loss, task.train, "evaluation", 0, **PLAIN)
    found = position_profiles(measurements, made.probe.loss_positions, average)
    whole = lag_profiles(measurements, average)
    for replicate in (0, 1):
        for lag in range(1, 13):
            phi = found["phi"][(found["replicate"] == replicate) & (found["lag"] == lag)]
            assert len(phi) == sum(position + 1 >= lag for position in made.probe.loss_positions)
            of_all = (whole["replicate"] == replicate) & (whole["lag"] == lag) & (whole["component"] == "all")
            expected = whole["phi"][of_all].item()
            mean = phi.mean() if average == "mean" else np.exp(np.log(phi).mean())
            assert mean == pytest.approx(expected, rel=1e-12)


def test_a_probe_that_is_not_finite_logs_no_length_and_says_why() -> None:
    measurement = made_measurement(finite=False)
    logged = {name: value for name, _, value in bias_metrics([measurement], K=3) if "measured" not in name}
    assert all(math.isnan(value) for name, value in logged.items() if name != "gradient_cosine")
    assert measurement.problem() == "its loss must be finite, and is nan in stream 1"
    assert made_measurement().problem() is None
