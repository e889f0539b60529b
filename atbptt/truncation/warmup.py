"""A truncation length that grows on a schedule."""

import math

from atbptt.errors import require, require_choice, require_whole
from atbptt.truncation.policy import Policy, Probe, Progress

GROWTHS = ("linear", "geometric")


class Warmup(Policy):
    """K grows from `K_init` to `K_final`, then stays: short, cheap windows while only near lags carry a signal.

    A curriculum over the length of windows (Elman, Cognition 1993; Bengio et al., ICML 2009). K is set before each
    window, by the steps so far, and rounded down.

    Arguments:
        K_init: K of the first window.
        K_final: K from `epochs` on.
        epochs: passes over the training stream until K is `K_final`, a fraction is fine.
        growth: `linear`, by the same number of steps an epoch; or `geometric`, by the same factor.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, K_init: int, K_final: int, epochs: float, growth: str = "linear") -> None:
        require_whole("K_init", K_init, 1)
        require_whole("K_final", K_final, 1)
        require(K_final >= K_init, "K_final", K_final, f"must be at least K_init (={K_init})")
        require(0 < epochs < math.inf, "epochs", epochs, "must be greater than 0 (epochs)")
        require_choice("growth", growth, GROWTHS)
        self.K = self.K_init = K_init
        self.K_final = K_final
        self.epochs = epochs
        self.growth = growth

    def update(self, progress: Progress, probe: Probe) -> None:
        """Set K by the schedule."""
        share = min(progress.step / (self.epochs * progress.epoch_steps), 1.0)
        if self.growth == "linear":
            K = self.K_init + (self.K_final - self.K_init) * share
        else:
            K = self.K_init * (self.K_final / self.K_init) ** share
        self.K = min(math.floor(K + 1e-9), self.K_final)  # a whole number may be computed as a little less
