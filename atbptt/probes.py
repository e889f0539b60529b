"""A run's probes: windows drawn from its training stream, measured, and turned into bias estimates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from atbptt import schema
from atbptt.bias import BiasEstimate, RelativeBias, average_norms, bias_bound, resampling_weights
from atbptt.config import ProbeSettings
from atbptt.datasets.task import Task
from atbptt.errors import ConfigError, require
from atbptt.gradients import lag_gradients, loss_positions
from atbptt.lags import LagGradients
from atbptt.randomness import numpy_generator, torch_generator
from atbptt.truncation import Policy


@dataclass(frozen=True)
class Measurement:
    """One probe: its gradients at each lag and the bias they imply."""

    gradients: LagGradients
    estimate: BiasEstimate

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


class Prober:
    """Draws and measures the probes of a run.

    Arguments:
        settings: of the probe.
        seed: of the run; what a probe draws depends on it, on the purpose and on the step, and on no other draw.
    """

    def __init__(self, settings: ProbeSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.positions = loss_positions(settings.window, settings.tau, settings.positions)

    @property
    def steps(self) -> int:
        """Steps of the stream that one measurement consumes, over all its probes."""
        return self.settings.probes * (self.settings.burn_in + self.settings.window)

    def measure(
        self, model: nn.Module, task: Task, purpose: str, step: int, *, measured: bool, resampled: bool
    ) -> list[Measurement]:
        """Measure `probes` probes of the training stream.

        Arguments:
            purpose: names the random stream: `policy` or `evaluation`.
            step: training steps so far.
            measured: measure the relative bias besides bounding it.
            resampled: resample streams and positions, for intervals.
        """
        return [
            self._measure(model, task, (purpose, step, probe), measured, self.settings.resamples if resampled else 0)
            for probe in range(self.settings.probes)
        ]

    def _measure(
        self, model: nn.Module, task: Task, drawn_for: tuple[str, int, int], measured: bool, resamples: int
    ) -> Measurement:
        options = self.settings
        purpose, *numbers = drawn_for
        inputs, targets = task.train.draw(
            options.burn_in + options.window, torch_generator(f"probe for {purpose}", self.seed, *numbers)
        )
        weights = resampling_weights(
            resamples,
            len(self.positions),
            task.train.batch,
            numpy_generator(f"resamples of probe for {purpose}", self.seed, *numbers),
        )
        gradients = lag_gradients(
            model,
            task.loss,
            inputs,
            targets,
            self.positions,
            options.burn_in,
            measured=measured,
            weights=weights,
            generator=torch_generator(f"sketch of probe for {purpose}", self.seed, *numbers),
        )
        bound = bias_bound(
            gradients.norms,
            gradients.kept_of_mean,
            options.tau,
            average=options.average,
            estimator=options.estimator,
            fit_from=options.fit_from,
            kept_norm=options.kept_norm,
            longest=task.train.length,  # K beyond it truncates nothing more
            weights=gradients.weights,
            resampled_kept_of_mean=gradients.resampled_kept_of_mean,
        )
        return Measurement(gradients, BiasEstimate(bound, measured_bias(gradients)))


def measured_bias(gradients: LagGradients) -> RelativeBias | None:
    """The relative bias that a probe measured, if it did."""
    found = gradients.parameters
    if found is None:
        return None
    return RelativeBias(
        found.bias, np.empty((0, len(found.bias))) if found.resampled_bias is None else found.resampled_bias
    )


def bias_metrics(measurements: Sequence[Measurement], K: int) -> list[tuple[str, int, float]]:
    """What a run logs of its probes: (metric, replicate, value), the replicate being the probe's number.

    `K_<delta>`, the K(delta) of each logged delta by the bound, infinite where no K up to the stream's length has so
    small a bias; `log_relative_bias`, log delta(K) of the present `K`; both again by the measured bias, with
    `_measured` at the end. To each K(delta) `_low` and `_high` add its interval. `log_beta` is the log of the decay a
    lag that the bound extrapolates by, -inf where too few lags carry a signal to fit it. `gradient_cosine` is of the
    angle between the gradient truncated at the present K and the whole window's. NaN where the probe was not finite.
    """
    values = []
    for replicate, measurement in enumerate(measurements):
        estimate = measurement.estimate
        found = list(_metrics_of(estimate.bound, K, ""))
        if estimate.measured is not None:
            found += _metrics_of(estimate.measured, K, "_measured")
        found.append(("log_beta", estimate.bound.log_beta))
        if (measured := measurement.gradients.parameters) is not None:
            found.append(("gradient_cosine", float(measured.cosine[min(K, len(measured.cosine)) - 1])))
        values += [(name, replicate, value) for name, value in found]
    return values


def _metrics_of(bias: RelativeBias, K: int, kind: str) -> Iterator[tuple[str, float]]:
    for delta in schema.LOGGED_DELTAS:
        name = f"{schema.metric_of_delta(delta)}{kind}"
        length = bias.truncation(delta)
        none = math.inf if bias.finite else math.nan
        yield name, none if length is None else length
        if len(bias.resampled):
            low, high = bias.interval(delta, schema.INTERVAL)
            yield f"{name}_low", low
            yield f"{name}_high", high
    value = bias.at(K)
    yield f"log_relative_bias{kind}", math.log(value) if value else -math.inf


def lag_profiles(measurements: Sequence[Measurement], average: str) -> dict[str, np.ndarray]:
    """Columns of gradients.parquet (see `schema.GRADIENTS_SCHEMA`), but for those of the run.

    A row per probe, component (`all` is the whole state) and lag; `average` as in `average_norms`. The relative
    bias at K = lag stands in the rows of `all`, NaN in the others.
    """
    rows: list[tuple[np.ndarray, ...]] = []
    for replicate, measurement in enumerate(measurements):
        gradients = measurement.gradients
        lags = np.arange(1, len(gradients.kept_of_mean) + 1)
        unknown = np.full(len(lags), np.nan)
        found = gradients.parameters
        of_measured = (unknown, unknown) if found is None else (found.bias, found.cosine)
        of_all = (measurement.estimate.bound.values[: len(lags)], *of_measured)
        profiles = [("all", gradients.norms, gradients.kept_of_mean, of_all)]
        profiles += [
            (name, norms, kept, (unknown,) * 3)
            for name, norms, kept in zip(
                gradients.components, gradients.component_norms, gradients.component_kept_of_mean, strict=True
            )
        ]
        for name, norms, kept, biases in profiles:
            phi = average_norms(norms, average)
            rows.append((np.full_like(lags, replicate), np.full(len(lags), name), lags, phi, kept, *biases))
    names = ("replicate", "component", "lag", "phi", "kept_of_mean", "relative_bias", "measured_bias", "cosine")
    return dict(zip(names, map(np.concatenate, zip(*rows, strict=True)), strict=True))


def position_profiles(
    measurements: Sequence[Measurement], positions: Sequence[int], average: str
) -> dict[str, np.ndarray]:
    """Columns of positions.parquet (see `schema.POSITIONS_SCHEMA`), but for those of the run.

    A row per probe, loss position and lag that the window holds for it.

    Arguments:
        positions: of the P losses in the probe window, see `Prober.positions`.
        average: over streams, as in `average_norms`.
    """
    rows: list[tuple[np.ndarray, ...]] = []
    for replicate, measurement in enumerate(measurements):
        for position, norms in zip(positions, measurement.gradients.norms, strict=True):
            lags = 1 + np.flatnonzero(~np.isnan(norms[:, 0]))
            phi = average_norms(norms[lags - 1], average)
            rows.append((np.full_like(lags, replicate), np.full_like(lags, position), lags, phi))
    return dict(zip(("replicate", "position", "lag", "phi"), map(np.concatenate, zip(*rows, strict=True)), strict=True))


def check_probe(settings: ProbeSettings, model: nn.Module, task: Task, policy: Policy) -> None:
    """Raise a `ConfigError` where probes do not fit in the training stream, or cannot tell what the policy asks."""
    steps = settings.burn_in + settings.window
    stream = task.train
    require(
        steps <= stream.length,
        "probe.burn_in + probe.window",
        steps,
        f"must not exceed the training stream's {stream.length} steps: a probe reads that many",
    )
    estimator, confidence = getattr(policy, "estimator", None), getattr(policy, "confidence", None)
    # The first two steps of the data, measured as a probe measures its window.
    positions, weights = [0, 1], np.full((1, 2, stream.batch), 1 / (2 * stream.batch))
    inputs, targets = stream.read(0, 2)
    found = lag_gradients(model, task.loss, inputs, targets, positions, measured=True, weights=weights).parameters
    if estimator == "measured" and found is None:
        name = type(model).__name__
        rule = f"(=measured) needs recurrent parameters, and the state of the model {name} depends on none"
        raise ConfigError("truncation.estimator", rule)
    if confidence is None:
        return
    rule = f"must be at least 1 for truncation.confidence (={confidence})"
    require(settings.resamples > 0, "probe.resamples", settings.resamples, rule)
    if estimator == "measured":
        rule = (
            "must be null with truncation.estimator=measured, but for a model whose whole state is that of one "
            "torch.nn.LSTM, GRU or RNN: of others, the streams' gradients are not told apart"
        )
        resampled = found is not None and found.resampled_bias is not None
        require(resampled, "truncation.confidence", confidence, rule)
