"""A run's probes: windows drawn from its training stream, measured, and turned into bias estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from atbptt import schema
from atbptt.bias import BiasEstimate, average_norms, estimate_bias
from atbptt.config import ProbeSettings
from atbptt.datasets.task import Task
from atbptt.errors import require
from atbptt.gradients import LagGradients, lag_gradients, loss_positions
from atbptt.randomness import torch_generator
from atbptt.streams import Stream


@dataclass(frozen=True)
class Measurement:
    """One probe: its gradients at each lag and the bias they imply."""

    gradients: LagGradients
    estimate: BiasEstimate


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

    def measure(self, model: nn.Module, task: Task, purpose: str, step: int) -> list[Measurement]:
        """Measure `probes` probes of the training stream.

        Arguments:
            purpose: names the random stream: `policy` or `evaluation`.
            step: training steps so far.
        """
        options = self.settings
        measured = []
        for probe in range(options.probes):
            generator = torch_generator(f"probe for {purpose}", self.seed, step, probe)
            inputs, targets = task.train.draw(options.burn_in + options.window, generator)
            gradients = lag_gradients(model, task.loss, inputs, targets, self.positions, options.burn_in)
            estimate = estimate_bias(
                gradients.norms,
                gradients.kept_of_mean,
                options.tau,
                average=options.average,
                estimator=options.estimator,
                fit_from=options.fit_from,
                kept_norm=options.kept_norm,
                longest=task.train.length,  # K beyond it truncates nothing more
            )
            measured.append(Measurement(gradients, estimate))
        return measured


def bias_metrics(measurements: Sequence[Measurement], K: int) -> list[tuple[str, int, float]]:
    """What a run logs of its probes: (metric, replicate, value), the replicate being the probe's number.

    `K_<delta>`: the K(delta) of each logged delta, infinite where no K up to the stream's length has so small a
    bias; `log_relative_bias`: log delta(K) of the present `K`. NaN where the probe was not finite.
    """
    values = []
    for replicate, measurement in enumerate(measurements):
        for delta in schema.LOGGED_DELTAS:
            length = measurement.estimate.truncation(delta)
            none = math.inf if measurement.estimate.finite else math.nan
            values.append((schema.metric_of_delta(delta), replicate, none if length is None else length))
        bias = measurement.estimate.bias_at(K)
        values.append(("log_relative_bias", replicate, math.log(bias) if bias else -math.inf))
    return values


def lag_profiles(measurements: Sequence[Measurement], average: str) -> dict[str, np.ndarray]:
    """Columns `replicate`, `component`, `lag`, `phi` and `kept_of_mean` of gradients.parquet.

    A row per probe, component (`all` is the whole state) and lag; `average` as in `average_norms`.
    """
    rows: list[tuple[np.ndarray, ...]] = []
    for replicate, measurement in enumerate(measurements):
        gradients = measurement.gradients
        profiles = [("all", gradients.norms, gradients.kept_of_mean)]
        profiles += zip(gradients.components, gradients.component_norms, gradients.component_kept_of_mean, strict=True)
        for name, norms, kept in profiles:
            lags = np.arange(1, len(kept) + 1)
            rows.append(
                (np.full_like(lags, replicate), np.full(len(lags), name), lags, average_norms(norms, average), kept)
            )
    names = ("replicate", "component", "lag", "phi", "kept_of_mean")
    return dict(zip(names, map(np.concatenate, zip(*rows, strict=True)), strict=True))


def check_probe(settings: ProbeSettings, stream: Stream) -> None:
    """Raise a `ConfigError` where a probe does not fit in the training stream."""
    steps = settings.burn_in + settings.window
    require(
        steps <= stream.length,
        "probe.burn_in + probe.window",
        steps,
        f"must not exceed the training stream's {stream.length} steps: a probe reads that many",
    )
