"""A run's probes: windows drawn from its training stream, measured, and turned into bias estimates."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from atbptt.bias import BiasEstimate, estimate_bias
from atbptt.config import ProbeSettings
from atbptt.datasets.task import Stream, Task
from atbptt.errors import require
from atbptt.gradients import LagGradients, lag_gradients, loss_positions, sample_windows
from atbptt.randomness import torch_generator


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

    def measure(
        self, model: nn.Module, task: Task, purpose: str, step: int, longest: int
    ) -> list[Measurement]:
        """Measure `probes` probes of the training stream.

        Arguments:
            purpose: names the random stream: `policy` or `evaluation`.
            step: training steps so far.
            longest: largest K whose bias is asked for, where it exceeds the window.
        """
        options = self.settings
        measured = []
        for probe in range(options.probes):
            generator = torch_generator(f"probe for {purpose}", self.seed, step, probe)
            inputs, targets = sample_windows(
                task.train.inputs, task.train.targets, options.burn_in + options.window, generator
            )
            gradients = lag_gradients(model, task.loss, inputs, targets, self.positions, options.burn_in)
            estimate = estimate_bias(
                gradients.norms,
                gradients.kept_of_mean,
                options.tau,
                average=options.average,
                estimator=options.estimator,
                fit_from=options.fit_from,
                kept_norm=options.kept_norm,
                longest=longest,
            )
            measured.append(Measurement(gradients, estimate))
        return measured


def check_probe(settings: ProbeSettings, stream: Stream) -> None:
    """Raise a `ConfigError` where a probe does not fit in the training stream."""
    steps = settings.burn_in + settings.window
    require(
        steps <= stream.length,
        "probe.burn_in + probe.window",
        steps,
        f"must not exceed the training stream's {stream.length} steps: a probe reads that many",
    )
