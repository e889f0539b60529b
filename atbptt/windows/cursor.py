"""The position of training in a stream, and the window that comes next."""

from typing import Any

from atbptt.models import State
from atbptt.truncation import Policy, Probe, Progress, update
from atbptt.windows.schemes import Window, cut

SAVED = ("epochs_done", "start", "position", "state")


class Cursor:
    """Moves over a stream of T steps, pass after pass, in windows that a scheme cuts."""

    def __init__(self, scheme: str, policy: Policy, length: int) -> None:
        self.scheme = scheme
        self.policy = policy
        self.length = length
        self.epochs_done = 0
        self.start = self.position = 0  # within the pass, see `schemes.cut`
        self.state: State = None  # at `start`, detached; None at the start of a pass

    @property
    def step(self) -> int:
        """Steps whose loss has been counted, over all passes."""
        return self.epochs_done * self.length + self.position

    @property
    def K(self) -> int:  # noqa: N802  (the field's name for a length)
        """The policy's K, or T if that is shorter: a longer K truncates no less."""
        return min(self.policy.K, self.length)

    def next_window(self, probe: Probe) -> Window:
        """Let the policy set its K with the help of `probe`, and cut the next window."""
        update(self.policy, Progress(self.step, self.length), probe)
        return cut(self.scheme, self.policy.K, self.length, self.start, self.position)

    def advance(self, window: Window, state: State) -> None:
        """Move behind a window, given the state at its `next_start`."""
        self.start, self.position, self.state = window.next_start, window.loss_stop, state
        if self.position == self.length:
            self.epochs_done += 1
            self.start = self.position = 0
            self.state = None

    def saved(self) -> dict[str, Any]:
        """The attributes that a checkpoint needs."""
        return {name: getattr(self, name) for name in SAVED}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to where it was when `saved` was called."""
        for name in SAVED:
            setattr(self, name, saved[name])
