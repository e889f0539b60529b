"""Truncation schemes: how a stream is cut in windows, each making one update with its learning rate.

A scheme is TBPTT(k1, k2) of Williams & Peng (1990): every k1 steps, backpropagate k2 steps. Cutting is a pure function
of K and the position, so K may change between any two windows, and a run resumes from two integers. Definitions:
docs/definitions.md. Without torch, since configs are read without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from atbptt.errors import require, require_choice
from atbptt.probes import SCHEMES, lengths_seen
from atbptt.randomness import numpy_generator
from atbptt.truncation import Full, Policy

Length = TypeVar("Length", int, float)  # in steps
LR_SCALINGS = ("none", "sqrt", "linear")
PHASES = ("fixed", "random")  # where the windows of a pass end


@dataclass(frozen=True)
class Window:
    """Steps of a stream that make one update, counted from the stream's start.

    Attributes:
        start: first step read. `start..loss_start-1` is the pre-roll.
        loss_start: first step whose loss this window counts.
        loss_stop: one past the last step whose loss this window counts.
        stop: one past the last step read. `loss_stop..stop-1` is the look-ahead of scheme `buffer`, whose losses reach
            the parameters only through the state at `loss_stop`.
        next_start: first step of the next window; this window's forward pass computes the state there.
    """

    start: int
    loss_start: int
    loss_stop: int
    stop: int
    next_start: int

    @property
    def losses(self) -> int:
        """Number of steps whose loss this window counts."""
        return self.loss_stop - self.loss_start


def full_losses(scheme: str, K: Length) -> Length:
    """Losses that a full window counts; the last of a stream, and with a phase the first, may count fewer.

    `K` may be the mean of lengths that are drawn.
    """
    first, last = lengths_seen(scheme, K)
    return last - first + 1


def random_phase(scheme: str, K: int, length: int, seed: int, number: int) -> int:
    """Losses of the first window of a pass, drawn evenly from 1 to those of a full window; `number` is the pass's."""
    return int(numpy_generator("phase", seed, number).integers(full_losses(scheme, min(K, length)))) + 1


def cut(scheme: str, K: int, length: int, start: int, position: int, phase: int | None = None) -> Window:
    """The next window of a stream of `length` steps.

    The state is known at `start` (0, or the last window's `next_start`), and losses are counted up to `position` (0, or
    its `loss_stop`). With a phase it counts that many losses instead of a full window's, at most to the end.

    After a change of K one window still has the old pre-roll, since the state is known only where the last window left
    it; with `original`, as many windows as the pre-roll takes to grow.
    """
    losses = full_losses(scheme, K) if phase is None else phase
    if scheme == "buffer":
        stop = min(position + losses + K - 1, length)
        # A window that reaches the end has nothing left to look ahead to and counts all its steps.
        loss_stop = length if stop == length else position + losses
        return Window(start, position, loss_stop, stop, loss_stop)
    if scheme == "original":
        # The first loss is that of the first step with K steps to backpropagate through.
        loss_start = min(K, length) - 1 if position == 0 else position
        loss_stop, pre_roll = loss_start + losses, K - 1
    else:
        loss_start, loss_stop = position, min(position + losses, length)
        pre_roll = K - 1 if scheme == "original-buffer" else 0
    next_start = max(start, loss_stop - pre_roll)
    return Window(start, loss_start, loss_stop, loss_stop, next_start)


def windows(scheme: str, K: int, length: int) -> Iterator[Window]:
    """All windows of one pass at constant K."""
    start = position = 0
    while position < length:
        window = cut(scheme, K, length, start, position)
        yield window
        start, position = window.next_start, window.loss_stop


def check_scheme(policy: Policy, scheme: str, phase: str = "fixed") -> None:
    """Raise a `ConfigError` if the scheme or the phase does not work with the policy."""
    require_choice("scheme", scheme, SCHEMES)
    require_choice("phase", phase, PHASES)
    if phase == "random":
        kind = type(policy).__name__.lower()
        require(
            scheme != "original", "phase", phase, "must be fixed with scheme=original: it makes an update every step"
        )
        rule = f"must be fixed with the {kind} policy:"
        require(not isinstance(policy, Full), "phase", phase, f"{rule} it would cut what is to be whole")
        require(policy.adjoint_factors(1) is None, "phase", phase, f"{rule} its cuts are random already")
    if policy.adjoint_factors(1) is not None:
        kind = type(policy).__name__.lower()
        rule = f"must be tf with the {kind} policy: in others a gradient does not end at the policy's cuts"
        require(scheme == "tf", "scheme", scheme, rule)
    policy.check_scheme(scheme)


def scaled_lr(lr: float, scaling: str, K: float) -> float:
    """lr, lr * sqrt(K) or lr * K: with mean losses, a window of K losses deserves a larger step."""
    return {"none": lr, "sqrt": lr * K**0.5, "linear": lr * K}[scaling]


def full_lr(lr: float, scaling: str, policy: Policy, K: int) -> float:
    """The learning rate of a window of length K, or of the policy's `base` if it has one."""
    return scaled_lr(lr, scaling, K if policy.base is None else policy.base)


def lr_scale(policy: Policy, scheme: str, losses: float) -> float:
    """A window's losses over those of a window of the policy's `base`; 1 for a policy without one."""
    return 1.0 if policy.base is None else losses / full_losses(scheme, policy.base)


def window_lr(lr: float, scaling: str, policy: Policy, scheme: str, losses: float) -> float:
    """The learning rate of the update of a window with so many losses."""
    if policy.base is not None:
        return scaled_lr(lr, scaling, policy.base) * lr_scale(policy, scheme, losses)
    # The last window of a stream may be short: scaled with the whole K, its few losses would make as large a step.
    return scaled_lr(lr, scaling, policy.K * min(losses / full_losses(scheme, policy.K), 1.0))
