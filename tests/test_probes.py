from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from atbptt.bias import BiasEstimate
from atbptt.errors import ConfigError
from atbptt.experiment import build
from atbptt.probes import Measurement, Prober, bias_metrics, check_probe


def test_draws_depend_on_seed_purpose_step_and_probe_alone(settings: Any) -> None:
    made = settings("probe.probes=2")
    task, model, *_ = build(made)

    def phi(seed: int = 0, purpose: str = "policy", step: int = 3, probe: int = 0) -> np.ndarray:
        measured = Prober(made.probe, seed).measure(model, task, purpose, step)
        return measured[probe].estimate.phi

    np.testing.assert_array_equal(phi(), phi())
    for other in (phi(seed=1), phi(purpose="evaluation"), phi(step=4), phi(probe=1)):
        assert not np.array_equal(phi(), other)


def test_a_measurement_covers_the_window_and_every_K_of_the_stream(settings: Any) -> None:
    made = settings()
    task, model, *_ = build(made)
    prober = Prober(made.probe, 0)
    (measured,) = prober.measure(model, task, "policy", 0)
    assert measured.gradients.norms.shape == (2, 12, 4)
    assert measured.estimate.phi.shape == (12,)
    assert measured.estimate.bias.shape == (60,)
    assert measured.estimate.bias_at(10**12) == measured.estimate.bias[-1]
    assert prober.steps == 16  # burn-in and window


def test_what_is_logged_of_a_probe_by_hand() -> None:
    bias = np.array([2.0, 0.95, 0.7, 0.3])
    estimate = BiasEstimate(np.ones(4), -1.0, bias, bias)
    logged = bias_metrics([Measurement(None, estimate)], K=3)  # type: ignore[arg-type]
    assert logged == [
        ("K_1", 0, 2), ("K_0.9", 0, 3), ("K_0.5", 0, 4), ("K_0.1", 0, math.inf),
        ("log_relative_bias", 0, math.log(0.7)),
    ]  # fmt: skip


def test_a_probe_that_is_not_finite_logs_no_length() -> None:
    nothing = np.full(4, np.nan)
    logged = bias_metrics([Measurement(None, BiasEstimate(nothing, np.nan, nothing, nothing))], K=3)  # type: ignore[arg-type]
    assert all(math.isnan(value) for _, _, value in logged)


def test_a_probe_longer_than_the_stream_is_refused(settings: Any) -> None:
    made = settings("probe.burn_in=50")
    with pytest.raises(ConfigError, match=r"\(=62\) must not exceed the training stream's 60 steps"):
        check_probe(made.probe, build(settings()).task.train)
