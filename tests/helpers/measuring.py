"""A measurement made by hand, for tests of what is done with one."""

import numpy as np

from atbptt.probes.bias import BiasEstimate, Bound, RelativeBias
from atbptt.probes.lags import LagGradients
from atbptt.probes.measurement import Measurement
from atbptt.probes.parameters import GradientNoise, ParameterGradients


def made_measurement(finite: bool = True) -> Measurement:
    bias = np.array([2.0, 0.95, 0.7, 0.3]) if finite else np.full(4, np.nan)
    resampled = np.array([[2.0, 0.8, 0.7, 0.3], [2.0, 1.5, 0.95, 0.7]])
    measured = np.array([0.8, 0.4, 0.05, 0.0])
    none = np.empty((0, 4))
    norms = np.ones((1, 4, 2)) if finite else np.full((1, 4, 2), np.inf)
    losses = np.array([[1.0, 1.0 if finite else np.nan]])
    cosine = np.array([0.5, 0.8, 0.9, 1.0])
    of_steps = np.array([0.9, 0.6, 0.2, 0.0])
    noise = GradientNoise(
        2,
        np.arange(1, 5),
        np.arange(1, 5),
        np.array([4.0, 5.0, 6.0, 8.0]),
        np.ones(4),
        np.array([3.0, 1.0, 2.0, -1.0]),
        np.ones(4),
    )
    parameters = ParameterGradients(("w",), 1.0, measured, cosine, of_steps, cosine / 2, None, noise)
    kept = np.arange(4.0)
    gradients = LagGradients(losses, norms, norms[None], ("hidden0",), kept, kept[None], none, none, parameters, None)
    log_beta = -1.0 if finite else np.nan
    bound = Bound(bias, resampled, norms.mean(axis=(0, 2)), log_beta, bias, np.full(2, -0.1))
    estimate = BiasEstimate(bound, RelativeBias(measured, none), RelativeBias(of_steps, none), noise)
    return Measurement(gradients, estimate)
