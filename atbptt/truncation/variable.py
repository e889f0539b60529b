"""Lengths drawn around a base, so that windows end at other steps in every epoch."""

import math

from atbptt.errors import require, require_whole
from atbptt.randomness import numpy_generator
from atbptt.truncation.policy import Policy, Probe, Progress


class Variable(Policy):
    """K drawn anew for every window (AWD-LSTM: Merity, Keskar & Socher, ICLR 2018).

    Normal around `base`, or around half of it with probability `half_probability`; rounded down, and at least `K_min`.
    The learning rate is multiplied by a window's losses over those of a window of length `base`, so that each step of
    the stream counts the same.

    Arguments:
        base: mean of K, in steps.
        sd: standard deviation of K, in steps.
        half_probability: the probability that K is drawn around half of `base`.
        K_min: smallest K; shorter draws are raised to it.
        K_max: largest K; longer draws are lowered to it. None for any.
        seed: of the draws, which depend on it and on the step of the stream only.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    base: int

    def __init__(
        self,
        base: int,
        sd: float = 5.0,
        half_probability: float = 0.05,
        K_min: int = 5,
        seed: int = 0,
        K_max: int | None = None,
    ) -> None:
        require_whole("base", base, 1)
        require_whole("seed", seed, 0)
        require(0 <= sd < math.inf, "sd", sd, "must be at least 0 (steps)")
        require(0 <= half_probability <= 1, "half_probability", half_probability, "must lie between 0 and 1")
        require_whole("K_min", K_min, 1)
        require(K_min <= base, "K_min", K_min, f"must be at most base (={base})")
        if K_max is not None:
            require_whole("K_max", K_max, 1)
            require(K_max >= base, "K_max", K_max, f"must be at least base (={base})")
        self.base = self.K = base
        self.sd = sd
        self.half_probability = half_probability
        self.K_min = K_min
        self.K_max = K_max
        self.seed = seed

    def check_scheme(self, scheme: str) -> None:
        """Raise a `ConfigError` for `original`."""
        rule = "must be another with the variable policy: its windows have one loss each, whatever K is"
        require(scheme != "original", "scheme", scheme, rule)

    def update(self, progress: Progress, probe: Probe) -> None:
        """Draw K."""
        generator = numpy_generator("variable length", self.seed, progress.step)
        center = self.base / 2 if generator.random() < self.half_probability else self.base
        drawn = max(self.K_min, int(generator.normal(center, self.sd)))
        self.K = drawn if self.K_max is None else min(drawn, self.K_max)
