"""What the training loop asks of a truncation policy, and what a policy is told."""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from atbptt.errors import ConfigError, require, require_choice
from atbptt.probes import BiasEstimate
from atbptt.windows import SCHEMES, Window, full_losses


@dataclass(frozen=True)
class Progress:
    """How far training is. Schedules count steps, so that they do not depend on the machine.

    Attributes:
        step: training steps of the stream so far, over all epochs.
        epoch_steps: steps in an epoch, the stream's length T.
    """

    step: int
    epoch_steps: int


class Probe(Protocol):
    """How a policy asks for the present bias."""

    def __call__(self, *, measured: bool = False, resampled: bool = False) -> Sequence[BiasEstimate]:
        """One estimate a probe, but for probes that are not finite.

        Arguments:
            measured: measure the relative bias besides bounding it, which takes 1.5 to 2.3 times as long.
            resampled: resample streams and positions, for intervals and confidence.
        """


class Policy(Protocol):
    """Any object with the present `K` and an `update`.

    `update` is called before every window. It may call `probe`, which costs `probe.probes` probes (counted in
    `adaptive_epoch`), and may set `K`, which holds from that window on. The object's `__dict__` is what a
    checkpoint stores of it.

    A policy may offer more, and does so by having it:

    - `base`, a length in steps. A learning rate is then scaled with `base`, not with K, and each window's multiplied
      by its losses over those of a window of that length: for policies that draw K anew for every window, whose steps
      would else count the more, the shorter their window is.
    - `check_scheme(scheme)`, which raises a `ConfigError` for a scheme that makes no sense with it.
    - `adjoint_factors(steps)`, by which the gradient with respect to the state is multiplied on its way back from each
      step of a window to the step before: `steps - 1` numbers, the first for the way from the second step to the first.
      For scheme `tf` only, whose windows are what lies between two cuts.
    """

    K: int

    def update(self, progress: Progress, probe: Probe) -> None:
        """Set `K` for the windows to come."""


def check_policy(policy: Policy) -> None:
    """Raise a `ConfigError` unless the object is a policy that a checkpoint can store."""
    kind = type(policy).__name__
    K = getattr(policy, "K", None)
    require(isinstance(K, int) and K >= 1, "K", K, f"must be an integer from 1 on in an object of {kind}")
    require(callable(getattr(policy, "update", None)), "_target_", kind, "must have a method update")
    try:
        pickle.dumps(vars(policy))
    except Exception as error:  # no __dict__, or something in it that no file can hold
        raise ConfigError("_target_", f"(={kind}) cannot be stored in a checkpoint: {error}") from error


def update(policy: Policy, progress: Progress, probe: Probe) -> None:
    """Let the policy set its K for the next window, and check it (ConfigError)."""
    policy.update(progress, probe)
    try:
        policy.K = operator.index(policy.K)  # a user's policy may leave a numpy integer
    except TypeError:
        require(False, "truncation.K", policy.K, "must be an integer after an update")
    require(policy.K >= 1, "truncation.K", policy.K, "must be at least 1 after an update")


def name_of(policy: Policy) -> str:
    """How a message calls it."""
    return type(policy).__name__.lower()


def check_scheme(policy: Policy, scheme: str) -> None:
    """Raise a `ConfigError` unless windows of the scheme make sense with the policy."""
    require_choice("scheme", scheme, SCHEMES)
    if hasattr(policy, "adjoint_factors"):
        rule = f"must be tf with the {name_of(policy)} policy: in others a gradient does not end at the policy's cuts"
        require(scheme == "tf", "scheme", scheme, rule)
    if callable(check := getattr(policy, "check_scheme", None)):
        check(scheme)


def share_of_base(policy: Policy, scheme: str, window: Window) -> float | None:
    """The window's losses over those of a window of the policy's `base`; None for a policy without one."""
    base = getattr(policy, "base", None)
    return None if base is None else window.losses / full_losses(scheme, base)


def adjoint_factors(policy: Policy, window: Window) -> Sequence[float] | None:
    """What the policy multiplies the adjoint with within a window (see `Policy`); None for a policy that does not."""
    factors = getattr(policy, "adjoint_factors", None)
    return factors(window.stop - window.start) if callable(factors) else None


def next_due(step: int, every: float, epoch_steps: int) -> int:
    """The first step after `step` that is due, where every `every` epochs of `epoch_steps` steps one is.

    The n-th is due at step n * every * epoch_steps, rounded up. Products of decimal fractions are a little off
    (3 * 0.2 * 60 is 36.00000000000001), which must not move a step.
    """
    interval = max(every * epoch_steps, 1.0)
    n = max(int(step / interval) - 1, 0)
    while (due := math.ceil(round(n * interval, 6))) <= step:
        n += 1
    return due
