"""Random cuts, with the remaining gradient reweighted: truncation without bias."""

import math

import numpy as np

from atbptt.errors import require, require_choice, require_whole
from atbptt.randomness import numpy_generator
from atbptt.truncation.policy import Policy, Probe, Progress

HAZARDS = ("constant", "decreasing")
DRAWN_AT_ONCE = 256  # boundaries between steps that are decided at once, until one is cut


class Randomized(Policy):
    """Anticipated reweighted truncated backpropagation, ARTBP (Tallec & Ollivier, arXiv 1705.08209).

    After each step the stream is cut with probability c. If it is not cut, the gradient with respect to the state is
    multiplied by 1 / (1 - c) on its way back; that of the step's own loss is not. A loss then reaches a step with the
    probability that no cut lies between them, and with its inverse as a factor: the expected gradient, at given
    parameters, is that of the whole stream. The price is variance: a gradient from far away is rare and large.

    The n-th boundary after a cut is cut with probability

    - `constant`: c = 1 / length;
    - `decreasing`: c_n = alpha / ((alpha - 1) length + n), so that lengths have the heavy tail n^-alpha, and
      factors grow with a power of the lag only (the paper's schedule).

    Both make windows of `length` steps on average. The learning rate is multiplied by a window's losses over `length`,
    so that each step of the stream counts the same. Clipping makes the gradient biased again.

    Arguments:
        length: expected steps between two cuts, greater than 1.
        hazard: `decreasing` or `constant`.
        alpha: exponent of the tail for `decreasing`, greater than 1.
        seed: of the draws, which depend on it and on the step of the stream only.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    base: float

    def __init__(self, length: float, hazard: str = "decreasing", alpha: float = 4.0, seed: int = 0) -> None:
        require(1 < length < math.inf, "length", length, "must be greater than 1 (steps)")
        require_whole("seed", seed, 0)
        require_choice("hazard", hazard, HAZARDS)
        require(1 < alpha < math.inf, "alpha", alpha, "must be greater than 1")
        self.base = length
        self.hazard = hazard
        self.alpha = alpha
        self.seed = seed
        self.K = round(length)

    def cut_probabilities(self, first: int, count: int) -> np.ndarray:
        """c of `count` boundaries, the first of them the `first`-th (from 1) after a cut: (count,)."""
        if self.hazard == "constant":
            return np.full(count, 1 / self.base)
        return self.alpha / ((self.alpha - 1) * self.base + np.arange(first, first + count))

    def update(self, progress: Progress, probe: Probe) -> None:
        """Draw the next cut, at most at the stream's end."""
        generator = numpy_generator("randomized cuts", self.seed, progress.step)
        for first in range(1, progress.left, DRAWN_AT_ONCE):
            cut = generator.random(DRAWN_AT_ONCE) < self.cut_probabilities(first, DRAWN_AT_ONCE)
            if cut.any():
                self.K = min(first + int(cut.argmax()), progress.left)
                return
        self.K = progress.left

    def adjoint_factors(self, steps: int) -> list[float]:
        """1 / (1 - c) of the boundaries within a window of `steps` steps, none of which was cut."""
        factors: list[float] = (1 / (1 - self.cut_probabilities(1, steps - 1))).tolist()
        return factors
