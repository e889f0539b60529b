"""One probe: `probe` and `measure` take the gradients of a window and return a `Measurement`."""

import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor, nn

from atbptt.errors import ConfigError, DataWarning, require, require_choice, require_whole
from atbptt.models import (
    LossFunction,
    Nested,
    State,
    axes,
    both_counted,
    check_recurrent,
    check_streams,
    counted_by,
    output_of_step,
    share_counted,
    time_first,
    turned,
    turned_loss,
    widened,
)
from atbptt.probes.bias import ESTIMATORS, BiasEstimate, RelativeBias, bias_bound, resampling_weights
from atbptt.probes.gradients import lag_gradients
from atbptt.probes.lags import LagGradients
from atbptt.probes.parameters import GradientNoise
from atbptt.probes.settings import SCHEMES, ProbeSettings, default_tau, taking_former_names
from atbptt.randomness import numpy_generator, torch_generator


@dataclass(frozen=True)
class Measurement:
    """One probe: the gradients at each lag and the bias of truncation that follows from them.

    Attributes:
        gradients: norms by loss position, lag and stream, and by component of the state.
        estimate: the relative bias of truncation at K = 1, 2, ..., bounded and measured, with resamples of both.
    """

    gradients: LagGradients
    estimate: BiasEstimate

    @property
    def phi(self) -> np.ndarray:
        """Norm of the gradient with respect to the state at lags 1..W, averaged over streams and positions: (W,).

        Where sequences begin within the window, over those that reach back to the lag; NaN where none does.
        """
        if self.gradients.reached is None:
            return self.estimate.bound.phi
        return self.gradients.phi(self.gradients.norms)

    @property
    def bound(self) -> np.ndarray:
        """The bound on the relative bias of truncation at K = 1, 2, ..., W of them or more (row 0 is K = 1)."""
        return self.estimate.bound.values

    @property
    def measured(self) -> np.ndarray | None:
        """The relative bias of the scheme at K = 1..W against the whole window's gradient; None if not measured."""
        return None if self.estimate.measured is None else self.estimate.measured.values

    @property
    def measured_of_steps(self) -> np.ndarray | None:
        """`measured` with every loss backpropagated through exactly K steps."""
        return None if self.estimate.measured_of_steps is None else self.estimate.measured_of_steps.values

    @property
    def noise(self) -> GradientNoise | None:
        """How much the scheme's gradient varies, at K = 1..W; None if it was not measured."""
        return self.estimate.noise

    def K(self, delta: float, estimator: str = "bound") -> int | None:  # noqa: N802  (the field's name for a length)
        """K(delta), the smallest truncation length whose relative bias is at most delta; None if there is none.

        Arguments:
            delta: the largest relative bias allowed.
            estimator: of the bias, its `bound` or `measured`.

        Raises:
            ConfigError: an argument breaks its rule, or the bias was not measured.
        """
        require(isinstance(delta, Real) and delta > 0, "delta", delta, "must be greater than 0")
        require_choice("estimator", estimator, ESTIMATORS)
        bias: RelativeBias | None = getattr(self.estimate, estimator)
        if bias is None:
            raise ConfigError("estimator", "(=measured) needs a probe that measures: a model with recurrent parameters")
        return bias.truncation(delta)

    def problem(self) -> str | None:
        """What in the probe is not finite, so that nothing is known of the bias; None if all is."""
        counted, losses = self.gradients.counted, self.gradients.losses
        if not counted.any():
            return "no loss at its positions counts"
        if not (self.gradients.reach > 0).any():
            return "a sequence begins at every step, so that no gradient goes back a step"
        wrong = counted & ~np.isfinite(losses)
        if wrong.any():
            return f"its loss must be finite, and is {losses[wrong][0]} in stream {np.argwhere(wrong)[0, 1]}"
        finite = np.isfinite(self.estimate.bound.phi[: self.gradients.lags])
        if not finite.all():
            lag = int(np.argmin(finite)) + 1
            return f"its losses are finite, but their gradient at lag {lag} is not"
        if not self.estimate.bound.finite:
            return "the norms of its gradients are finite, but their sum is not"
        if self.estimate.measured is not None and not self.estimate.measured.finite:
            return "the gradient of its recurrent parameters must be finite, and not zero throughout"
        return None


@taking_former_names
def probe(
    model: nn.Module,
    loss: LossFunction,
    inputs: Nested,
    targets: Nested,
    *,
    counted: Tensor | None = None,
    resets: Tensor | None = None,
    scheme: str = "original-buffer",
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
    batch_first: bool = False,
) -> Measurement:
    """How far back the gradient of a model's loss reaches, and the bias that truncation would cause.

    Any recurrent module can be probed, see `atbptt.models.Recurrent`. Dropout is off during the probe, the module's
    mode is restored, and no gradient is left on its parameters.

    Arguments:
        model: (inputs, state) -> (outputs, state), time first.
        loss: (outputs, targets) -> losses (T, B), one a step and stream, not yet averaged; or the pair of them and
            `counted`, which must depend on the targets only.
        inputs, targets: burn_in + W steps, (burn_in + W, B, ...); as outputs, a tensor, or a tuple, list or dict of
            tensors.
        counted: which losses count, (burn_in + W, B), as booleans or as weights from 0 on; all by default.
        resets: where a new sequence begins, (burn_in + W, B) booleans, in the state before the first step or if none is
            given in the model's initial one; no gradient reaches back beyond that.
        scheme: how training will cut the stream, one of `SCHEMES`: the measured bias and the noise are of it.
        state: before the first of them; zero by default.
        burn_in: steps run without gradient before the window.
        tau: lags whose measured norms are summed; the fitted decay is extrapolated beyond them. Three quarters of the
            window by default.
        positions: how many steps have their loss differentiated, the last one and others from `tau` on, of those at
            which a loss counts; up to 4 by default.
        resamples, average, decay_fit, fit_from, kept_norm: see `ProbeSettings`.
        seed: of the resamples.
        batch_first: whether all these, the model's outputs and the losses begin with (B, T) instead of (T, B).

    Raises:
        ConfigError: an argument breaks its rule, or the model, the loss or the streams do not fit together.
    """
    require_choice("scheme", scheme, SCHEMES)
    if batch_first:
        model, loss = time_first(model), turned_loss(loss)
        inputs, targets, counted, resets = (turned(part) for part in (inputs, targets, counted, resets))
    check_streams(inputs, targets, counted, resets)
    inputs, targets = widened(inputs), widened(targets)
    check_recurrent(model, inputs, state, training=False)
    output = output_of_step(model, loss, inputs, targets, state)
    counted = both_counted(counted, counted_by(loss, targets, output))
    require_whole("seed", seed, 0)
    require(isinstance(burn_in, Integral), "burn_in", burn_in, "must be a whole number")
    length = axes(inputs)[0]
    window = length - burn_in
    require(window >= 4, "inputs", length, f"must be burn_in (={burn_in}) and at least 4 steps")
    tau = default_tau(window) if tau is None else tau
    require(isinstance(tau, Integral), "tau", tau, "must be a whole number")
    positions = max(1, min(4, window - tau)) if positions is None else positions
    settings = ProbeSettings(window, tau, burn_in, positions, 1, resamples, average, decay_fit, fit_from, kept_norm)
    at = None if counted is None else _positions(counted, settings)
    found = measure(
        model,
        loss,
        inputs,
        targets,
        settings,
        scheme,
        state=state,
        drawn_for=("probe", seed),
        counted=counted,
        resets=resets,
        positions=at,
    )
    if counted is not None:
        _warn_of_few(counted[burn_in:], found.gradients)
    return found


def _warn_of_few(counted: Tensor, gradients: LagGradients) -> None:
    """Warn if most streams with losses that count have none at the positions, as those that end before."""
    counting = (counted > 0).any(dim=0).cpu().numpy()
    missed = int((counting & ~gradients.counted.any(axis=0)).sum())
    if 2 * missed > counting.sum():
        steps = f"{missed} of the {counting.sum()} streams with losses that count have none at the steps probed"
        warnings.warn(f"{steps}: give more positions, or streams that end together", DataWarning, stacklevel=4)


def _positions(counted: Tensor, settings: ProbeSettings) -> list[int]:
    """Steps of a window from tau on at which a loss counts, evenly chosen up to the last one."""
    first = settings.burn_in + settings.tau
    steps = settings.tau + np.flatnonzero((counted[first:] > 0).any(dim=1).cpu().numpy())
    require(len(steps) > 0, "counted", 0, f"must count a loss from step burn_in + tau (={first}) on")
    chosen = np.linspace(len(steps) - 1, 0, settings.positions).round().astype(int)
    return [int(steps[each]) for each in sorted(set(chosen))]


def measure(
    model: nn.Module,
    loss: LossFunction,
    inputs: Nested,
    targets: Nested,
    settings: ProbeSettings,
    scheme: str,
    *,
    state: State = None,
    drawn_for: tuple[Any, ...],
    measured: bool = True,
    resampled: bool = True,
    noise: bool = True,
    longest: int | None = None,
    counted: Tensor | None = None,
    share: float | None = None,
    resets: Tensor | None = None,
    positions: list[int] | None = None,
) -> Measurement:
    """Measure one window, of the length in the settings; see `probe`.

    Arguments:
        drawn_for: the purpose and the numbers that name its random streams.
        measured: measure the relative bias besides its bound.
        resampled: resample streams and positions, for intervals.
        noise: measure the noise of the gradient, if the bias is measured.
        longest: largest K of interest if it exceeds W.
        counted: which losses count, (burn_in + W, B); all by default.
        share: of the losses of training that count; by default that of the window.
        resets: where sequences begin, (burn_in + W, B) booleans; by default only at the start.
        positions: steps of the window whose loss is differentiated, by default those of the settings.
    """
    if resets is not None:
        settings.check_average()
    purpose, *numbers = drawn_for
    if share is None:
        share = 1.0 if counted is None else share_counted(counted[settings.burn_in :])
    positions = settings.loss_positions if positions is None else positions
    weights = resampling_weights(
        settings.resamples if resampled else 0,
        len(positions),
        axes(inputs)[1],
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
        scheme=scheme if measured else None,
        noise=noise,
        weights=weights,
        generator=torch_generator(f"sketch of {purpose}", *numbers),
        counted=counted,
        share=share,
        resets=resets,
    )
    bound = bias_bound(
        gradients.norms,
        gradients.kept_of_mean,
        settings,
        longest=longest,
        weights=gradients.weights,
        resampled_kept_of_mean=gradients.resampled_kept_of_mean,
        shares=gradients.shares,
        lags=gradients.lags,
    )
    if (found := gradients.parameters) is None:
        return Measurement(gradients, BiasEstimate(bound))
    of_resamples = np.empty((0, len(found.bias))) if found.resampled_bias is None else found.resampled_bias
    of_steps = RelativeBias(found.bias_of_steps, np.empty((0, len(found.bias))))
    measured_bias = RelativeBias(found.bias, of_resamples)
    return Measurement(gradients, BiasEstimate(bound, measured_bias, of_steps, found.noise, found.cosine))
