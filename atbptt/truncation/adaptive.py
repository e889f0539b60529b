"""The truncation length from the gradients' relative bias."""

import math

from atbptt.errors import require, require_choice
from atbptt.probes import ESTIMATORS
from atbptt.truncation.policy import Policy, Probe, Progress, check_lengths, next_due


class Adaptive(Policy):
    """The smallest K whose relative bias is at most delta (Aicher, Foti & Fox, UAI 2019, alg. 2).

    Arguments:
        delta: the largest relative bias allowed.
        estimator: `bound`, the paper's bound on the bias of K steps; or `measured`, the bias of the scheme in use
            against the gradient of the whole probe window, at K up to W.
        confidence: share of the resamples of streams and loss positions in which the bias must be at most delta; with
            None, the estimate itself must be.
        K_init: K until the first update.
        K_min, K_max: K(delta) of each probe is clamped to them; K_max if no K has so small a bias.
        max_factor: the most that an update may multiply or divide K by, but K may always move by 1; None for any.
        update_every: epochs between updates, a fraction is fine.
        as_published: as the released code did, take the number of the last lag that the bound needs for K, which is one
            step short of its promise, and clamp the mean over probes only.

    An update averages K(delta) over the probes and rounds down. Probes that are not finite are ignored; without any
    finite probe K stays.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    probes = True

    def __init__(
        self,
        delta: float = 0.9,
        K_init: int = 10,
        K_min: int = 2,
        K_max: int = 40,
        update_every: float = 1.0,
        estimator: str = "bound",
        confidence: float | None = None,
        max_factor: float | None = None,
        as_published: bool = False,
    ) -> None:
        require(delta > 0, "delta", delta, "must be greater than 0")
        require_choice("estimator", estimator, ESTIMATORS)
        require(confidence is None or 0 < confidence < 1, "confidence", confidence, "must lie between 0 and 1, or null")
        check_lengths(K_init, K_min, K_max)
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
        self.as_published = as_published
        self.next_update: int | None = None  # in steps

    def update(self, progress: Progress, probe: Probe) -> None:
        """Probe and set K if an update is due."""
        if self.next_update is None:
            self.next_update = next_due(0, self.update_every, progress.epoch_steps)
        if progress.step < self.next_update:
            return
        self.next_update = next_due(progress.step, self.update_every, progress.epoch_steps)
        estimates = probe(measured=self.estimator == "measured", resampled=self.confidence is not None)
        biases = [getattr(estimate, self.estimator) for estimate in estimates]
        lengths = [bias.truncation(self.delta, self.confidence) for bias in biases if bias.finite]
        if lengths:
            short = int(self.as_published and self.estimator == "bound")
            found = [self.K_max if K is None else max(K - short, 1) for K in lengths]
            if not self.as_published:  # or a K far beyond K_max would move the mean as if such windows could be made
                found = [self._clamped(K) for K in found]
            K = self._clamped(sum(found) // len(found))
            if self.max_factor is not None:
                shortest = min(math.ceil(self.K / self.max_factor), self.K - 1)
                longest = max(math.floor(self.K * self.max_factor), self.K + 1)
                K = min(max(K, shortest), longest)
            self.K = K

    def _clamped(self, K: int) -> int:
        return min(max(K, self.K_min), self.K_max)
