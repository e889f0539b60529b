"""One probe: `probe` and `measure` take the gradients of a window, and a `Measurement` is what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from atbptt.errors import ConfigError, require, require_choice
from atbptt.models import LossFunction, State, check_recurrent, check_streams, widened
from atbptt.probes.bias import (
    ESTIMATORS,
    BiasEstimate,
    RelativeBias,
    bias_bound,
    resampling_weights,
)
from atbptt.probes.gradients import lag_gradients
from atbptt.probes.settings import ProbeSettings, default_tau, taking_former_names
from atbptt.probes.sums import LagGradients
from atbptt.randomness import numpy_generator, torch_generator


@dataclass(frozen=True)
class Measurement:
    """One probe: the gradients at each lag and the bias that they imply.

    Attributes:
        gradients: norms by loss position, lag and stream, and by component of the state.
        estimate: the relative bias of truncation at K = 1, 2, ..., its bound and as measured, with resamples of both.
    """

    gradients: LagGradients
    estimate: BiasEstimate

    @property
    def phi(self) -> np.ndarray:
        """Norm of the gradient with respect to the state at lags 1..W, averaged over streams and positions: (W,)."""
        return self.estimate.bound.phi

    @property
    def bound(self) -> np.ndarray:
        """The bound on the relative bias of truncation at K = 1, 2, ..., W of them or more (row 0 is K = 1)."""
        return self.estimate.bound.values

    @property
    def measured(self) -> np.ndarray | None:
        """The relative bias at K = 1..W against the gradient of the whole window; None where it was not measured."""
        return None if self.estimate.measured is None else self.estimate.measured.values

    def K(self, delta: float, estimator: str = "bound") -> int | None:  # noqa: N802  (the field's name for a length)
        """K(delta), the smallest truncation length whose relative bias is at most delta; None where there is none.

        Arguments:
            delta: the relative bias allowed.
            estimator: by the `bound` on it, or as `measured`.
        """
        require(delta > 0, "delta", delta, "must be greater than 0")
        require_choice("estimator", estimator, ESTIMATORS)
        bias = getattr(self.estimate, estimator)
        if bias is None:
            raise ConfigError("estimator", "(=measured) needs a probe that measures: a model with recurrent parameters")
        length: int | None = bias.truncation(delta)
        return length

    def problem(self) -> str | None:
        """Why it tells nothing of the bias, because something is not finite; None where all is well."""
        losses = self.gradients.losses
        if not np.isfinite(losses).all():
            stream = np.argwhere(~np.isfinite(losses))[0, 1]
            return f"its loss must be finite, and is {losses[~np.isfinite(losses)][0]} in stream {stream}"
        phi = self.estimate.bound.phi
        if not np.isfinite(phi).all():
            return f"its losses are finite, but their gradient at lag {int(np.argmin(np.isfinite(phi))) + 1} is not"
        if not self.estimate.bound.finite:
            return "the norms of its gradients are finite, but their sum is not"
        if self.estimate.measured is not None and not self.estimate.measured.finite:
            return "the gradient of its recurrent parameters must be finite, and not zero throughout"
        return None


@taking_former_names
def probe(
    model: nn.Module,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    *,
    state: State = None,
    burn_in: int = 0,
    tau: int | None = None,
    positions: int | None = None,
    resamples: int = 100,
    average: str = "mean",
    decay_fit: str = "ols",
    fit_from: int | None = None,
    kept_norm: str = "of_mean",
    seed: int = 0,
) -> Measurement:
    """How far back the gradient of a model's loss reaches, and what truncation would lose of it.

    Any recurrent module can be probed, see `atbptt.models.Recurrent`. Dropout is off meanwhile, the module's mode is
    restored, and no gradient is left on its parameters.

    Arguments:
        model: (inputs, state) -> (outputs, state), time first.
        loss: (outputs, targets) -> losses (T, B), one a step and stream, not yet averaged.
        inputs, targets: burn_in + W steps, (burn_in + W, B, ...).
        state: before the first of them; zero if left out.
        burn_in: steps that are run before the window, without gradient.
        tau: rows of measured lags that are summed; beyond, the fitted decay is extrapolated. Three quarters of the
            window if left out.
        positions: steps whose loss is differentiated, the last one and others from `tau` on; up to 4 if left out.
        resamples, average, decay_fit, fit_from, kept_norm: see `ProbeSettings`.
        seed: of the resamples.

    Raises:
        ConfigError: what does not fit, by its name.
    """
    check_streams(inputs, targets)
    inputs, targets = widened(inputs), widened(targets)
    check_recurrent(model, inputs, state)
    window = len(inputs) - burn_in
    require(window >= 4, "inputs", len(inputs), f"must be burn_in (={burn_in}) and 4 steps at least")
    tau = default_tau(window) if tau is None else tau
    positions = max(1, min(4, window - tau)) if positions is None else positions
    settings = ProbeSettings(window, tau, burn_in, positions, 1, resamples, average, decay_fit, fit_from, kept_norm)
    return measure(model, loss, inputs, targets, settings, state=state, drawn_for=("probe", seed))


def measure(
    model: nn.Module,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    settings: ProbeSettings,
    *,
    state: State = None,
    drawn_for: tuple[Any, ...],
    measured: bool = True,
    resampled: bool = True,
    longest: int | None = None,
) -> Measurement:
    """Measure one window.

    Arguments:
        model, loss, inputs, targets, state: see `probe`.
        settings: of the probe; its `window` and `burn_in` are how many steps are given.
        drawn_for: the purpose and the numbers that name its random streams.
        measured: measure the relative bias besides bounding it.
        resampled: resample streams and positions, for intervals.
        longest: largest K of interest, where it exceeds W.
    """
    purpose, *numbers = drawn_for
    positions = settings.loss_positions
    weights = resampling_weights(
        settings.resamples if resampled else 0,
        len(positions),
        inputs.shape[1],
        numpy_generator(f"resamples of {purpose}", *numbers),
    )
    gradients = lag_gradients(
        model,
        loss,
        inputs,
        targets,
        positions,
        settings.burn_in,
        state,
        measured=measured,
        weights=weights,
        generator=torch_generator(f"sketch of {purpose}", *numbers),
    )
    bound = bias_bound(
        gradients.norms,
        gradients.kept_of_mean,
        settings,
        longest=longest,
        weights=gradients.weights,
        resampled_kept_of_mean=gradients.resampled_kept_of_mean,
    )
    return Measurement(gradients, BiasEstimate(bound, _measured_bias(gradients)))


def _measured_bias(gradients: LagGradients) -> RelativeBias | None:
    found = gradients.parameters
    if found is None:
        return None
    resampled = np.empty((0, len(found.bias))) if found.resampled_bias is None else found.resampled_bias
    return RelativeBias(found.bias, resampled)
