"""The same truncation length throughout."""

from atbptt.errors import require_whole
from atbptt.truncation.policy import Policy, Probe, Progress


class Fixed(Policy):
    """The same K from the first window to the last (Williams & Peng, Neural Computation 1990).

    Arguments:
        K: truncation length in steps.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, K: int) -> None:
        require_whole("K", K, 1)
        self.K = K

    def update(self, progress: Progress, probe: Probe) -> None:
        """Nothing: K is fixed."""
