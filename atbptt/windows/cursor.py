"""The position of training in a stream, and the window that comes next."""

from collections.abc import Mapping
from typing import Any

from atbptt.errors import require, require_64_bits, require_whole
from atbptt.models import State, map_tensors, tensors
from atbptt.truncation import Policy, Probe, Progress, update
from atbptt.windows.schemes import Window, cut, random_phase

SAVED = ("epochs_done", "start", "position")


class Cursor:
    """Moves over a stream of T steps, pass after pass, in windows that a scheme cuts."""

    def __init__(self, scheme: str, policy: Policy, length: int, phase_seed: int | None = None) -> None:
        """With a seed for the phase, the length of each pass's first window is drawn by it.

        `length`, T, may be another in another pass; the policy's schedule counts by the first one unless `epoch_steps`
        is set.
        """
        self.scheme = scheme
        self.phase_seed = phase_seed
        self.policy = policy
        self.length = length
        self.epoch_steps = length
        self.epochs_done = 0
        self.steps_before = 0  # of the passes done
        self.start = self.position = 0  # within the pass, see `schemes.cut`
        self.state: State = None  # at `start`, detached; None at the start of a pass

    @property
    def step(self) -> int:
        """Steps behind it, over all passes."""
        return self.steps_before + self.position

    @property
    def pass_read(self) -> int:
        """The number of the pass that was read last: between two, of the one that has ended."""
        return self.epochs_done - (self.position == 0 and self.epochs_done > 0)

    @property
    def K(self) -> int:  # noqa: N802  (the field's name for a length)
        """The policy's K, or T if that is shorter: a longer K truncates no less."""
        return min(self.policy.K, self.length)

    def next_window(self, probe: Probe) -> Window:
        """Let the policy set its K with the help of `probe`, and cut the next window."""
        progress = Progress(self.step, self.epoch_steps, self.length - self.position)
        update(self.policy, progress, probe)
        phase = None
        if self.position == 0 and self.phase_seed is not None:
            phase = random_phase(self.scheme, self.policy.K, self.length, self.phase_seed, self.epochs_done)
        return cut(self.scheme, self.policy.K, self.length, self.start, self.position, phase)

    def advance(self, window: Window, state: State) -> None:
        """Move behind a window, given the state at its `next_start`."""
        self.start, self.position, self.state = window.next_start, window.loss_stop, state
        if self.position == self.length:
            self.end_pass()

    def end_pass(self) -> None:
        """Move to the start of the next pass."""
        self.epochs_done += 1
        self.steps_before += self.position
        self.start = self.position = 0
        self.state = None

    def saved(self) -> dict[str, Any]:
        """What a checkpoint needs; of the state, its tensors, since a class of the model's own cannot be stored."""
        state = None if self.state is None else tensors(self.state)
        own = {name: getattr(self, name) for name in SAVED}
        return {**own, "steps_before": self.steps_before, "state": state}

    def restore(self, saved: Mapping[str, Any], first_state: State) -> None:
        """Go back to where it was when `saved` was called.

        Arguments:
            saved: from a checkpoint, which may be another's.
            first_state: at the start of a pass, like which the state is made; it may be None if no window comes.

        Raises:
            ConfigError: what is saved does not fit.
        """
        for name in SAVED:
            require_whole(name, saved[name], 0)
            setattr(self, name, saved[name])
        # Earlier versions, in which all passes had the same length, did not store it.
        self.steps_before = saved.get("steps_before", self.epochs_done * self.length)
        require_whole("steps_before", self.steps_before, 0)
        for name in ("start", "position"):
            require(saved[name] < self.length, name, saved[name], f"must be less than {self.length}")
        require_64_bits("step", self.step)
        stored, own = saved["state"], None if first_state is None else tensors(first_state)
        self.state = None
        if stored is not None and own is not None:
            parts = tensors(stored)
            shapes = [[tuple(part.shape) for part in each] for each in (parts, own)]
            require(shapes[0] == shapes[1], "state", shapes[0], f"must have tensors of the shapes {shapes[1]}")
            following = iter(parts)
            self.state = map_tensors(lambda part: next(following).to(part.device), first_state)
