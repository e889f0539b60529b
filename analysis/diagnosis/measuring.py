"""Measures the model of a run at its checkpoint: how far back must this network backpropagate?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from atbptt.datasets import SPLITS
from atbptt.errors import described, require, require_choice
from atbptt.probes import Measurement, ProbeSettings, RelativeBias, measure
from atbptt.randomness import torch_generator
from atbptt.runs.schema import INTERVAL
from atbptt.training import StoredModel

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

    trained: StoredModel
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


def diagnose(
    trained: StoredModel, split: str, settings: ProbeSettings, deltas: Sequence[float], seed: int
) -> Diagnosis:
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
        DiagnosisError: the probe says nothing: something in it is not finite.
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
        hint = "less window, probes or positions take less memory"
        raise DiagnosisError(f"the probe fails: {described(error)[:300]}; {hint}") from error
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


SHORT = 0.5  # of the window: a measured K(delta) beyond it may be longer, since beyond the window nothing is seen
SHARES = (0.1, 0.01, 0.001)  # of phi at lag 1


def lag_of_share(phi: np.ndarray, share: float) -> int | None:
    """The first lag from which on phi is at most a share of phi at lag 1; None where the window ends before.

    Arguments:
        phi: (W,), row 0 is lag 1.
        share: below 1.
    """
    above = np.flatnonzero(phi > share * phi[0])
    last = int(above[-1]) + 1 if len(above) else 0
    return None if last == len(phi) else last + 1


def half_life(log_beta: float) -> float:
    """Lags in which phi halves: infinite where it does not fall."""
    return math.log(0.5) / log_beta if log_beta < 0 else math.inf


def shown_lags(window: int) -> list[int]:
    """Lags 1, 2, 5, 10, 20, ... of a window, and its last."""
    decades = range(len(str(window)))
    return [lag for decade in decades for step in (1, 2, 5) if (lag := step * 10**decade) < window] + [window]


@dataclass(frozen=True)
class Length:
    """K(delta) in steps with its interval: infinite where no K has so small a bias, NaN ends without resamples."""

    steps: float
    low: float
    high: float

    @property
    def interval(self) -> str:
        """`9 to 13`, nothing where there is none."""
        return "" if math.isnan(self.low) else f"{_length(self.low)} to {_length(self.high)}"

    def __str__(self) -> str:
        return _length(self.steps)


def length_of(bias: RelativeBias, delta: float) -> Length:
    """K(delta) of a bias, between the ends that `INTERVAL` of the resamples lie in."""
    K = bias.truncation(delta)
    return Length(math.inf if K is None else K, *bias.interval(delta, INTERVAL))


@dataclass(frozen=True)
class Lengths:
    """K(delta) by the bound, and as measured where that is known."""

    delta: float
    bound: Length
    measured: Length | None


def too_short(lengths: Sequence[Lengths], window: int) -> list[float]:
    """The deltas whose K, as measured, is so near to W that the window hides how much longer it is."""
    return [each.delta for each in lengths if each.measured and each.measured.steps > SHORT * window]


def answer(lengths: Sequence[Lengths], window: int) -> str:
    """How far back the network must backpropagate, in a sentence."""
    short = too_short(lengths, window)

    def needed(each: Lengths) -> str:
        length = each.bound if each.measured is None else each.measured
        if length.steps == math.inf:
            return f"farther than the bound can tell for {each.delta:g}"
        return f"{'at least ' if each.delta in short else ''}{_steps(length.steps)} for {each.delta:g}"

    parts = [needed(each) for each in lengths]
    parts[0] = parts[0].replace(" for ", " for a relative bias of at most ")
    if lengths[0].measured is None:
        return f"By the bound, this network must backpropagate {_joined(parts)}."
    bound = _joined([_length(each.bound.steps) for each in lengths])
    return f"This network must backpropagate {_joined(parts)}, as measured; by the bound, {bound}."


def judgement(lengths: Sequence[Lengths], K: int, window: int) -> str:
    """For which deltas the present K is long enough, in a sentence; not for those that the window hides."""
    short = too_short(lengths, window)
    known = [each for each in lengths if each.delta not in short]
    enough = [f"{each.delta:g}" for each in known if (each.measured or each.bound).steps <= K]
    if not enough and short:
        return f"Whether its present K = {K} is long enough, the window does not tell."
    if not enough:
        return f"Its present K = {K} is too short for {'any of these' if len(lengths) > 1 else 'that'}."
    return f"Its present K = {K} is long enough for {_joined(enough)}."


def _length(steps: float) -> str:
    return "none" if steps == math.inf else f"{steps:.0f}"


def _steps(steps: float) -> str:
    return f"{steps:.0f} step{'' if steps == 1 else 's'}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
