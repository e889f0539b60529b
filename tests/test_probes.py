from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atbptt.errors import ConfigError
from atbptt.experiment import build
from atbptt.probes import Prober, check_probe


def test_draws_depend_on_seed_purpose_step_and_probe_alone(settings: Any) -> None:
    made = settings("probe.probes=2")
    task, model, *_ = build(made)

    def phi(seed: int = 0, purpose: str = "policy", step: int = 3, probe: int = 0) -> np.ndarray:
        measured = Prober(made.probe, seed).measure(model, task, purpose, step, 1)
        return measured[probe].estimate.phi

    np.testing.assert_array_equal(phi(), phi())
    for other in (phi(seed=1), phi(purpose="evaluation"), phi(step=4), phi(probe=1)):
        assert not np.array_equal(phi(), other)


def test_a_measurement_covers_the_window_and_the_longest_K(settings: Any) -> None:
    made = settings()
    task, model, *_ = build(made)
    prober = Prober(made.probe, 0)
    (measured,) = prober.measure(model, task, "policy", 0, longest=30)
    assert measured.gradients.norms.shape == (2, 12, 4)
    assert measured.estimate.phi.shape == (12,)
    assert measured.estimate.bias.shape == (30,)
    assert prober.steps == 16  # burn-in and window


def test_a_probe_longer_than_the_stream_is_refused(settings: Any) -> None:
    made = settings("probe.burn_in=50")
    with pytest.raises(ConfigError, match=r"\(=62\) must not exceed the training stream's 60 steps"):
        check_probe(made.probe, build(settings()).task.train)
