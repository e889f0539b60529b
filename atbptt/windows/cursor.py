"""Where training is in a stream, and which window comes next."""

from __future__ import annotations

from typing import Any

from atbptt.models import State
from atbptt.truncation import Policy, Probe, Progress, update
from atbptt.windows.schemes import Window, cut

SAVED = ("epochs_done", "start", "position", "state")


class Cursor:
    """Walks over a stream of T steps, pass after pass, in windows that a scheme cuts and a policy sizes.

    Arguments:
        scheme: one of `SCHEMES`.
        policy: sets K before each window.
        length: T.

    Attributes:
        epochs_done: passes finished.
        start, position: within the pass, see `schemes.cut`.
        state: at `start`, detached; None at the start of a pass.
    """

    def __init__(self, scheme: str, policy: Policy, length: int) -> None:
        self.scheme = scheme
        self.policy = policy
        self.length = length
        self.epochs_done = 0
        self.start = 0
        self.position = 0
        self.state: State = None

    @property
    def step(self) -> int:
        """Steps of the stream whose loss was counted so far, over all passes."""
        return self.epochs_done * self.length + self.position

    @property
    def K(self) -> int:  # noqa: N802  (the field's name for a length)
        """The policy's K; T where that is longer, which truncates nothing more."""
        return min(self.policy.K, self.length)

    def next_window(self, probe: Probe) -> Window:
        """Let the policy set its K, and cut the next window.

        Arguments:
            probe: what the policy may ask.
        """
        update(self.policy, Progress(self.step, self.length), probe)
        return cut(self.scheme, self.policy.K, self.length, self.start, self.position)

    def advance(self, window: Window, state: State) -> None:
        """Go on behind a window.

        Arguments:
            state: at `window.next_start`.
        """
        self.start, self.position, self.state = window.next_start, window.loss_stop, state
        if self.position == self.length:
            self.epochs_done += 1
            self.start = self.position = 0
            self.state = None

    def saved(self) -> dict[str, Any]:
        """All that a checkpoint needs of it."""
        return {name: getattr(self, name) for name in SAVED}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to where it was when that was `saved`."""
        for name in SAVED:
            setattr(self, name, saved[name])
