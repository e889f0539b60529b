"""Truncation policies: who decides K, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from atbptt.bias import BiasEstimate
from atbptt.errors import require, require_choice
from atbptt.schedules import next_due


@dataclass(frozen=True)
class Progress:
    """How far training is. Schedules count steps, so that they do not depend on the machine.

    Attributes:
        step: training steps of the stream so far, over all epochs.
        epoch_steps: steps in an epoch, the stream's length T.
    """

    step: int
    epoch_steps: int


ESTIMATORS = ("bound", "measured")


class Probe(Protocol):
    """How a policy asks for the present bias."""

    def __call__(self, *, measured: bool = False, resampled: bool = False) -> Sequence[BiasEstimate]:
        """One estimate a probe, but for probes that are not finite.

        Arguments:
            measured: measure the relative bias besides bounding it, which takes twice to three times as long.
            resampled: resample streams and positions, for intervals and confidence.
        """


class Policy(Protocol):
    """Any object with the present `K` and an `update`.

    `update` is called before every window. It may call `probe`, which costs `probe.probes` probes (counted in
    `adaptive_epoch`), and may set `K`, which holds from that window on. The object's `__dict__` is what a
    checkpoint stores of it.
    """

    K: int

    def update(self, progress: Progress, probe: Probe) -> None:
        """Set `K` for the windows to come."""


class Fixed:
    """The same K from the first window to the last.

    Arguments:
        K: truncation length in steps.
    """

    def __init__(self, K: int) -> None:
        require(K >= 1, "K", K, "must be at least 1")
        self.K = K

    def update(self, progress: Progress, probe: Probe) -> None:
        """Nothing: K is fixed."""


class Adaptive:
    """The smallest K whose relative bias is at most delta (Aicher, Foti & Fox, UAI 2019, alg. 2).

    Arguments:
        delta: the relative bias allowed.
        estimator: `bound`, the paper's bound on the bias; or `measured`, against the gradient of the whole probe
            window, so that K never exceeds W.
        confidence: share of the resamples of streams and loss positions in which the bias must be at most delta;
            None asks the estimate itself.
        K_init: K until the first update.
        K_min, K_max: K is clamped to them; K_max is taken where no K has so small a bias.
        max_factor: the most that an update may multiply or divide K by, but K may always move by 1; None for any.
        update_every: epochs between updates, a fraction is fine.

    At an update K(delta) is averaged over the probes and rounded down. A probe that is not finite has no
    say; if none is, K stays.
    """

    def __init__(
        self,
        delta: float,
        K_init: int,
        K_min: int,
        K_max: int,
        update_every: float,
        estimator: str = "bound",
        confidence: float | None = None,
        max_factor: float | None = None,
    ) -> None:
        require(delta > 0, "delta", delta, "must be greater than 0")
        require_choice("estimator", estimator, ESTIMATORS)
        require(confidence is None or 0 < confidence < 1, "confidence", confidence, "must lie between 0 and 1, or null")
        require(K_min >= 1, "K_min", K_min, "must be at least 1")
        require(K_min <= K_max, "K_min", K_min, f"must not exceed K_max (={K_max})")
        require(K_min <= K_init <= K_max, "K_init", K_init, f"must lie in K_min..K_max (={K_min}..{K_max})")
        factor = max_factor is None or 1 < max_factor < math.inf
        require(factor, "max_factor", max_factor, "must be greater than 1, or null")
        require(0 < update_every < math.inf, "update_every", update_every, "must be greater than 0 (epochs)")
        self.delta = delta
        self.estimator = estimator
        self.confidence = confidence
        self.K = K_init
        self.K_min = K_min
        self.K_max = K_max
        self.max_factor = max_factor
        self.update_every = update_every
        self.next_update: int | None = None  # in steps

    def update(self, progress: Progress, probe: Probe) -> None:
        """Probe and set K where an update is due."""
        if self.next_update is None:
            self.next_update = next_due(0, self.update_every, progress.epoch_steps)
        if progress.step < self.next_update:
            return
        self.next_update = next_due(progress.step, self.update_every, progress.epoch_steps)
        estimates = probe(measured=self.estimator == "measured", resampled=self.confidence is not None)
        biases = [getattr(estimate, self.estimator) for estimate in estimates]
        lengths = [bias.truncation(self.delta, self.confidence) for bias in biases if bias.finite]
        if lengths:
            mean = sum(self.K_max if K is None else K for K in lengths) / len(lengths)
            self.K = min(max(self._limited(int(mean)), self.K_min), self.K_max)

    def _limited(self, K: int) -> int:
        if self.max_factor is None:
            return K
        longest = max(math.floor(self.K * self.max_factor), self.K + 1)
        shortest = min(math.ceil(self.K / self.max_factor), self.K - 1)
        return min(max(K, shortest), longest)
