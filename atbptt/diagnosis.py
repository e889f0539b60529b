"""Measures the model of a run at its checkpoint: how far back must this network backpropagate?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from atbptt.datasets import SPLITS
from atbptt.errors import described, require, require_choice
from atbptt.probes import Measurement, ProbeSettings, measure
from atbptt.randomness import torch_generator
from atbptt.reach import Lengths, length_of, too_short
from atbptt.training import Trained

PURPOSE = "probe for diagnosis"  # names the random streams


class DiagnosisError(ValueError):
    """A probe that tells nothing, in one line."""


@dataclass(frozen=True)
class Diagnosis:
    """What was measured of a run's model.

    Attributes:
        trained: the model and its run.
        split: whose streams the windows were drawn from.
        settings: of the probe.
        measurement: of all probes together, as of one with as many more streams.
        lengths: K(delta) for each delta asked for.
    """

    trained: Trained
    split: str
    settings: ProbeSettings
    measurement: Measurement
    lengths: tuple[Lengths, ...]

    @property
    def norms(self) -> np.ndarray:
        """phi of each loss, (P B, W), of the mean over the split's own streams, as a run logs it."""
        norms = self.measurement.gradients.norms.swapaxes(1, 2)
        return self.settings.probes * norms.reshape(-1, norms.shape[-1])

    @property
    def phi(self) -> np.ndarray:
        """The average of `norms`, (W,)."""
        return self.settings.probes * self.measurement.phi


def diagnose(trained: Trained, split: str, settings: ProbeSettings, deltas: Sequence[float], seed: int) -> Diagnosis:
    """Measure windows of a split, each stream's from a random start of its own.

    The streams of all probes are measured side by side: there is one estimate, of probes x B streams.

    Arguments:
        trained: the run's model.
        split: `train`, `valid` or `test`.
        settings: of the probe.
        deltas: relative biases to find K(delta) for.
        seed: of the starts and of the resamples.

    Raises:
        ConfigError: the stream is too short, or what does not fit.
        DiagnosisError: the probe told nothing.
    """
    require_choice("split", split, SPLITS)
    stream = getattr(trained.task, split)
    rule = f"must not exceed the {split} stream's {stream.length} steps"
    require(settings.steps <= stream.length, "burn_in + window", settings.steps, rule)
    drawn = [
        stream.draw(settings.steps, torch_generator(PURPOSE, seed, trained.step, number))
        for number in range(settings.probes)
    ]
    inputs, targets = (torch.cat(parts, dim=1) for parts in zip(*drawn, strict=True))
    try:
        measurement = measure(
            trained.model,
            trained.task.loss,
            inputs,
            targets,
            settings,
            drawn_for=(PURPOSE, seed, trained.step),
            longest=trained.task.train.length,  # K beyond it truncates nothing more
        )
    except (RuntimeError, MemoryError) as error:  # a user's own class, or no memory left
        told = "less window, probes or positions take less memory"
        raise DiagnosisError(f"the probe fails: {described(error)[:300]}; {told}") from error
    if (problem := measurement.problem()) is not None:
        raise DiagnosisError(f"the probe tells nothing: {problem}")
    if not measurement.phi[0] > 0:
        raise DiagnosisError("the probe tells nothing: no gradient reaches the state one step back")
    bound, measured = measurement.estimate.bound, measurement.estimate.measured
    lengths = tuple(
        Lengths(delta, length_of(bound, delta), None if measured is None else length_of(measured, delta))
        for delta in deltas
    )
    return Diagnosis(trained, split, settings, measurement, lengths)


def cautions(diagnosis: Diagnosis) -> list[str]:
    """What keeps the probe from telling, a line each."""
    found, settings = [], diagnosis.settings
    stream = getattr(diagnosis.trained.task, diagnosis.split)
    if short := too_short(diagnosis.lengths, settings.window):
        deltas = ", ".join(f"{delta:g}" for delta in short)
        wider = f"; --window {2 * settings.window} tells more"
        found.append(
            f"K for delta {deltas} lies in the far half of the window (W = {settings.window}), beyond which nothing is "
            f"seen{wider if settings.burn_in + 2 * settings.window <= stream.length else ''}"
        )
    if diagnosis.measurement.estimate.bound.log_beta >= 0:
        found.append(
            "phi does not decay (beta >= 1): the bound is infinite, and the window too short or the probe noisy"
        )
    measurement = diagnosis.measurement
    if measurement.estimate.measured is None:
        found.append("the model has no recurrent parameters to measure the bias of: there is the bound only")
    elif settings.resamples and not len(measurement.estimate.measured.resampled):
        found.append(f"no interval as measured: {measurement.gradients.unsuited}")
    return found
