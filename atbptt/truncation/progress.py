"""The truncation length with the most expected progress per cost, from the gradient's direction and noise."""

import math
from collections.abc import Sequence

import numpy as np

from atbptt.errors import require
from atbptt.probes import BiasEstimate, at_length
from atbptt.truncation.policy import Policy, Probe, Progress, check_lengths

CHANGE = 1.2  # factor: if K changes by more, the next update comes sooner


class ProgressPerCost(Policy):
    """The K whose updates are expected to make the most progress per cost, so that neither K nor delta is chosen.

    A step of the best length along an update u decreases a smooth loss by (g m)^2 / (2 L E||u||^2) on average, with g
    the full gradient, m the update's mean and L the curvature (Bottou, Curtis & Nocedal, SIAM Review 2018, section 4).
    Probes measure g m and E||u||^2 = ||m||^2 + noise of every K under the scheme in use; an update costs the steps that
    it reads and as much as `update_cost` steps more. L is the same for every K, and drops out.

    That is myopic: while near lags still have most of the gradient, short windows look best. So K is the best among
    those whose mean gradient points within `max_sine` of the full one; if none does, the longest that the probe tells.

    Arguments:
        K_init: K until the first update.
        K_min, K_max: the least and the greatest K that is considered.
        first_update: epochs until the first update, and the least between updates.
        update_every: the most epochs between updates. The interval doubles from update to update, and halves where K
            has changed by more than a factor of `CHANGE`.
        update_cost: what an update costs besides the steps that it reads, in steps.
        max_sine: the largest sine of the angle between m and g: the part of g that no rescaling of m makes good.
        memory: weight of the earlier updates' probes in the mean of all; 0 uses the last update's alone.
        hold: K stays while its expected progress is short of the best one by at most this share.

    Probes that are not finite are ignored; without any finite probe K stays.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    probes = True
    estimator = "measured"
    noise = True

    def __init__(
        self,
        K_init: int = 10,
        K_min: int = 1,
        K_max: int = 40,
        first_update: float = 0.1,
        update_every: float = 4.0,
        update_cost: float = 12.0,
        max_sine: float = 0.3,
        memory: float = 0.5,
        hold: float = 0.05,
    ) -> None:
        check_lengths(K_init, K_min, K_max)
        require(0 < update_every < math.inf, "update_every", update_every, "must be greater than 0 (epochs)")
        rule = f"must be greater than 0 and at most update_every (={update_every:g})"
        require(0 < first_update <= update_every, "first_update", first_update, rule)
        require(0 <= update_cost < math.inf, "update_cost", update_cost, "must be at least 0 (steps)")
        require(0 < max_sine <= 1, "max_sine", max_sine, "must be greater than 0 and at most 1")
        for name, share in (("memory", memory), ("hold", hold)):
            require(0 <= share < 1, name, share, "must be at least 0 and less than 1")
        self.K = K_init
        self.K_min = K_min
        self.K_max = K_max
        self.first_update = first_update
        self.update_every = update_every
        self.update_cost = update_cost
        self.max_sine = max_sine
        self.memory = memory
        self.hold = hold
        self.interval = first_update  # until the next update, in epochs
        self.last_update = 0  # in steps
        self.readings: dict[str, list[float]] = {}  # means over the probes so far, at K = 1, 2, ...

    def update(self, progress: Progress, probe: Probe) -> None:
        """Probe and set K if an update is due."""
        if progress.step < self.last_update + math.ceil(self.interval * progress.epoch_steps):
            return
        self._add([_readings(estimate, self.K) for estimate in probe(measured=True, noise=True)])
        before = self.K
        if self.readings:
            self.K = self._best()
        much = max(self.K, before) > CHANGE * min(self.K, before)
        self.interval = min(max(self.interval / 2 if much else self.interval * 2, self.first_update), self.update_every)
        self.last_update = progress.step

    def _add(self, found: Sequence[dict[str, np.ndarray]]) -> None:
        """Take an update's probes into the means, but for those that are not finite."""
        usable = [each for each in found if all(np.isfinite(values).all() for values in each.values())]
        for name in usable[0] if usable else ():
            mean = np.mean([each[name] for each in usable], axis=0)
            before = np.array(self.readings.get(name, mean))
            self.readings[name] = (self.memory * before + (1 - self.memory) * mean).tolist()

    def _best(self) -> int:
        along, square, sine, steps = (np.array(self.readings[name]) for name in ("along", "square", "sine", "steps"))
        expected = np.maximum(along, 0) ** 2 / square / (self.update_cost + steps)
        lengths = np.arange(1, len(expected) + 1)
        chosen = (lengths >= self.K_min) & (lengths <= self.K_max) & (sine <= self.max_sine)
        if not chosen.any():
            return min(self.K_max, max(len(expected), self.K_min))
        expected = np.where(chosen, expected, -1.0)
        best = int(expected.argmax())
        if len(expected) >= self.K and expected[self.K - 1] >= (1 - self.hold) * expected[best]:
            return self.K
        return best + 1


def _readings(estimate: BiasEstimate, K: int) -> dict[str, np.ndarray]:
    """Of a probe at each K, in units of E||u||^2 at the present one, which changes by orders of magnitude.

    So a probe of a strong signal counts no more in a mean than a later one whose signal is lost in noise.
    """
    noise, cosine = estimate.noise, estimate.cosine
    assert noise is not None
    assert cosine is not None
    square = np.maximum(noise.signal, 0) + noise.of_update
    unit = at_length(square, K)
    unit = unit if 0 < unit < math.inf else math.nan
    return {
        "along": noise.along / unit,
        "square": square / unit,
        "sine": np.where(cosine > 0, np.sqrt(np.maximum(1 - np.square(cosine), 0)), 1.0),
        "steps": noise.steps,
    }
