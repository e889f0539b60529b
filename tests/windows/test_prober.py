from typing import Any

import numpy as np
import pytest

from atbptt.errors import ConfigError
from atbptt.training.experiment import build
from atbptt.windows.prober import Prober

MEASURED = {"measured": True, "resampled": True}
PLAIN = {"measured": False, "resampled": False}


def test_draws_depend_on_seed_purpose_step_and_probe_alone(settings: Any) -> None:
    made = settings("probe.probes=2")
    task, model, *_ = build(made)

    def found(seed: int = 0, purpose: str = "policy", step: int = 3, probe: int = 0) -> list[np.ndarray]:
        measured = Prober(made.probe, "tf", seed).measure(model, task.loss, task.train, purpose, step, **MEASURED)[
            probe
        ]
        return [measured.estimate.bound.phi, measured.gradients.weights, measured.estimate.measured.resampled]

    for again, once in zip(found(), found(), strict=True):
        np.testing.assert_array_equal(again, once)
    for other in (found(seed=1), found(purpose="evaluation"), found(step=4), found(probe=1)):
        assert not any(np.array_equal(one, another) for one, another in zip(found(), other, strict=True))


def test_a_measurement_covers_the_window_and_every_K_of_the_stream(settings: Any) -> None:
    made = settings("probe.resamples=7")
    task, model, *_ = build(made)
    prober = Prober(made.probe, "original", 0)
    (plain,), (whole,) = (prober.measure(model, task.loss, task.train, "policy", 0, **how) for how in (PLAIN, MEASURED))
    bound, measured = whole.estimate.bound, whole.estimate.measured
    assert whole.gradients.norms.shape == (2, 12, 4)
    assert (bound.phi.shape, bound.values.shape, bound.resampled.shape) == ((12,), (60,), (7, 13))
    assert bound.at(10**12) == bound.values[-1]
    assert (measured.values.shape, measured.resampled.shape) == ((12,), (7, 12))
    assert measured.at(12) == 0  # against the whole window
    assert prober.steps == 16  # burn-in and window
    # Without measuring and resampling all else is the same.
    assert plain.estimate.measured is None
    assert plain.estimate.bound.resampled.shape == (0, 13)
    # Some processors sum a product of more rows in another order.
    np.testing.assert_allclose(plain.estimate.bound.values, bound.values, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"burn_in \+ window \(=16\) must not exceed the stream's 15 steps"):
        prober.measure(model, task.loss, type(task.train)(*task.train.read(0, 15)), "policy", 0, **PLAIN)
