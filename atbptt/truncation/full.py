"""No truncation: backpropagation through the whole stream, or through pieces of it as a whole."""

from atbptt.errors import require, require_whole
from atbptt.truncation.policy import BEYOND_ANY_STREAM, Policy, Probe, Progress


class Full(Policy):
    """Full backpropagation (Werbos, Proc. IEEE 1990): one update a pass, with the gradient of the whole stream.

    Memory grows with the stream's length; `window` bounds it.

    Arguments:
        window: length of the pieces that the stream is cut in, each backpropagated through as a whole; None for the
            whole stream.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, window: int | None = None) -> None:
        if window is not None:
            require_whole("window", window, 1)
        self.window = window
        self.K = BEYOND_ANY_STREAM if window is None else window  # until `update` receives the stream's length

    def check_scheme(self, scheme: str) -> None:
        """Raise a `ConfigError` for `original`, and with a window for all but `tf`."""
        if self.window is not None:
            rule = f"must be tf with the full policy's window (={self.window}): in others, windows share steps"
            require(scheme == "tf", "scheme", scheme, rule)
        rule = "must be another with the full policy: its windows have one loss each, and there would be one window"
        require(scheme != "original", "scheme", scheme, rule)

    def update(self, progress: Progress, probe: Probe) -> None:
        """Set K to what is left of the stream, unless a window is given."""
        if self.window is None:
            self.K = progress.left
