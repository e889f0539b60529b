"""No truncation: backpropagation through the whole stream, or through the whole of each window."""

from __future__ import annotations

from atbptt.errors import require, require_whole
from atbptt.truncation.policy import Policy, Probe, Progress

BEYOND_ANY_STREAM = 2**31 - 1  # K until the stream's length is known, which `update` tells


class Full(Policy):
    """Full backpropagation (Werbos, Proc. IEEE 1990): one update a pass over the stream, of its whole gradient.

    A pass keeps what backpropagation needs of every step, so that memory grows with the stream's length; `window`
    bounds it.

    Arguments:
        window: steps that the stream is cut in, each piece backpropagated through as a whole, with nothing handed back
            to the piece before; None for all of the stream.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, window: int | None = None) -> None:
        if window is not None:
            require_whole("window", window, 1)
        self.window = window
        self.K = BEYOND_ANY_STREAM if window is None else window

    def check_scheme(self, scheme: str) -> None:
        """`tf` with a window; else any scheme whose one window has all losses (ConfigError)."""
        if self.window is not None:
            rule = f"must be tf with the full policy's window (={self.window}): in others, windows share steps"
            require(scheme == "tf", "scheme", scheme, rule)
        rule = "must be another with the full policy: its windows have one loss each, and there would be one window"
        require(scheme != "original", "scheme", scheme, rule)

    def update(self, progress: Progress, probe: Probe) -> None:
        """Set K to the stream's length, unless a window is given."""
        if self.window is None:
            self.K = progress.epoch_steps
