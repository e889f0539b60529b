from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import atbptt
from atbptt.training.experiment import build
from atbptt.windows.prober import Prober
from tests.helpers.modules import LSTMCellByCell, data, squared_error

MEASURED = {"measured": True, "resampled": True}
PLAIN = {"measured": False, "resampled": False}


def test_draws_depend_on_seed_purpose_step_and_probe_alone(settings: Any) -> None:
    made = settings("probe.probes=2")
    task, model, *_ = build(made)

    def found(seed: int = 0, purpose: str = "policy", step: int = 3, probe: int = 0) -> list[np.ndarray]:
        measured = Prober(made.probe, seed).measure(model, task.loss, task.train, purpose, step, **MEASURED)[probe]
        return [measured.estimate.bound.phi, measured.gradients.weights, measured.estimate.measured.resampled]

    for again, once in zip(found(), found(), strict=True):
        np.testing.assert_array_equal(again, once)
    for other in (found(seed=1), found(purpose="evaluation"), found(step=4), found(probe=1)):
        assert not any(np.array_equal(one, another) for one, another in zip(found(), other, strict=True))


def test_a_measurement_covers_the_window_and_every_K_of_the_stream(settings: Any) -> None:
    made = settings("probe.resamples=7")
    task, model, *_ = build(made)
    prober = Prober(made.probe, 0)
    (measured,) = prober.measure(model, task.loss, task.train, "policy", 0, **MEASURED)
    assert measured.gradients.norms.shape == (2, 12, 4)
    assert measured.estimate.bound.phi.shape == (12,)
    assert measured.estimate.bound.values.shape == (60,)
    assert measured.estimate.bound.resampled.shape == (7, 12)
    assert measured.estimate.bound.at(10**12) == measured.estimate.bound.values[-1]
    assert measured.estimate.measured.values.shape == (12,)
    assert measured.estimate.measured.resampled.shape == (7, 12)
    assert measured.estimate.measured.at(12) == 0  # against the whole window
    assert prober.steps == 16  # burn-in and window


def test_what_is_not_asked_for_is_not_measured_and_changes_nothing_else(settings: Any) -> None:
    made = settings()
    task, model, *_ = build(made)
    (plain,), (whole,) = (
        Prober(made.probe, 0).measure(model, task.loss, task.train, "policy", 0, **how) for how in (PLAIN, MEASURED)
    )
    assert plain.estimate.measured is None
    assert plain.estimate.bound.resampled.shape == (0, 12)
    # Some processors sum a product of more rows in another order.
    np.testing.assert_allclose(plain.estimate.bound.values, whole.estimate.bound.values, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "resamples", "message"),
    [
        ({"confidence": 0.9}, 0, r"resamples \(=0\) must be at least 1 for the policy's confidence \(=0.9\)"),
        ({"confidence": 0.9, "estimator": "measured"}, 9, r"confidence \(=0.9\) must be null with estimator=measured"),
    ],
)
def test_what_a_policy_cannot_ask_is_reported_at_once(options: dict[str, Any], resamples: int, message: str) -> None:
    policy = atbptt.Adaptive(delta=0.5, K_init=2, K_min=1, K_max=5, update_every=0.5, **options)
    probes = atbptt.ProbeSettings(window=8, tau=4, burn_in=2, positions=2, resamples=resamples)
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.Windows(LSTMCellByCell().double(), squared_error, *data(), policy, probes=probes)
