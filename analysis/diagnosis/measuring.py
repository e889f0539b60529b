"""Measures how far back the network of a run must backpropagate, at the run's checkpoint."""

from dataclasses import dataclass

import numpy as np

from atbptt.datasets import SPLITS
from atbptt.errors import AnalysisError, described, require_choice
from atbptt.probes import Measurement, ProbeSettings, measure
from atbptt.randomness import torch_generator
from atbptt.training import StoredModel
from atbptt.windows import side_by_side

PURPOSE = "probe for diagnosis"  # names the random streams


@dataclass(frozen=True)
class Diagnosis:
    """The measurement of a run's model.

    Attributes:
        trained: the model and its run.
        split: whose streams the windows are from.
        settings: of the probe.
        measurement: of all probes as one, with the streams of each side by side.
    """

    trained: StoredModel
    split: str
    settings: ProbeSettings
    measurement: Measurement

    @property
    def norms(self) -> np.ndarray:
        """phi of each loss that counts, (P B, W) at most, for a mean over the split's own streams, as a run logs it."""
        gradients = self.measurement.gradients
        counting: np.ndarray = gradients.norms.swapaxes(1, 2)[gradients.counted]
        return self.settings.probes * counting

    @property
    def phi(self) -> np.ndarray:
        """The average of `norms`, (W,); losses whose sequence does not reach back to a lag have 0 there."""
        return self.settings.probes * self.measurement.estimate.bound.phi


def diagnose(trained: StoredModel, split: str, settings: ProbeSettings, seed: int) -> Diagnosis:
    """Measure one window of each stream of a split, for each probe, from random starts.

    The probes are measured as one: there is a single estimate, from probes x B streams.

    Arguments:
        trained: the run's model.
        split: `train`, `valid` or `test`.
        settings: of the probe.
        seed: of the starts and of the resamples.

    Raises:
        ConfigError: an unknown split, or the stream is too short.
        AnalysisError: the probe fails, or something in it is not finite.
    """
    require_choice("split", split, SPLITS)
    stream = getattr(trained.task, split)
    settings.check_stream(stream.length, f"the {split} stream")
    drawn = [
        stream.draw(settings.steps, torch_generator(PURPOSE, seed, trained.step, number))
        for number in range(settings.probes)
    ]
    inputs, targets, counted, resets = side_by_side(drawn)
    try:
        measurement = measure(
            trained.model,
            trained.task.loss,
            inputs,
            targets,
            settings,
            trained.settings.scheme,
            counted=counted,
            share=stream.share,
            resets=resets,
            drawn_for=(PURPOSE, seed, trained.step),
            longest=trained.task.train.length,  # a longer K truncates nothing
        )
    except (RuntimeError, MemoryError, SystemExit) as error:  # from a user's own class, or out of memory
        hint = "a smaller window, fewer probes or positions take less memory"
        raise AnalysisError(f"the probe fails: {described(error)[:300]}; {hint}") from error
    problem = measurement.problem()
    if problem is None and not measurement.phi[0] > 0:
        problem = "no gradient reaches the state one step back"
    if problem is not None:
        raise AnalysisError(f"the probe tells nothing: {problem}")
    return Diagnosis(trained, split, settings, measurement)
