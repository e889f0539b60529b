"""A user's own policy that makes a run last as long as a test wants, without work; for test_cluster.py."""

import os
import time

from atbptt.truncation import Probe, Progress


class Pausing:
    """A fixed K, with a `pause` (s) before every window where PAUSING is set."""

    def __init__(self, K: int, pause: float) -> None:
        self.K = K
        self.pause = pause

    def update(self, progress: Progress, probe: Probe) -> None:  # noqa: ARG002
        if "PAUSING" in os.environ:
            time.sleep(self.pause)
