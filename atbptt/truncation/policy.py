"""What any truncation policy must offer, the arguments it receives, and schedules in epochs."""

from __future__ import annotations

import dis
import inspect
import math
import operator
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, Protocol

from atbptt.errors import ConfigError, require
from atbptt.probes import BiasEstimate


@dataclass(frozen=True)
class Progress:
    """Training progress. Schedules count steps, so that they do not depend on the machine.

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


class AnyPolicy(Protocol):
    """The least that is asked of a policy: any object with the present `K` and an `update`, see `Policy`."""

    K: int

    def update(self, progress: Progress, probe: Probe) -> None:
        """Set `K` for the windows to come."""


class Policy(ABC):
    """Decides K. A policy of your own derives from it, or has `K` and `update` alone: what it lacks is as here.

    The object's `__dict__` is what a checkpoint stores of it.

    Attributes:
        K: the present truncation length in steps, from 1 on.
        base: a length in steps, or None. A learning rate is then scaled with `base`, not with K, and each window's
            multiplied by its losses over those of a window of that length: for policies that draw K anew for every
            window, whose steps would else count the more, the shorter their window is.
        probes: whether `update` calls `probe`. Where probes cannot be made, such a policy is refused before the first
            window. Of an object that does not say it, `update` is looked at.
        estimator: of the relative bias it asks for: its `bound`, or as `measured`, which not every model allows.
        confidence: not None if it asks for the share of resamples whose bias is small enough, see `Adaptive`.
    """

    K: int
    base: float | None = None
    probes: bool = False
    estimator: str = "bound"
    confidence: float | None = None

    @abstractmethod
    def update(self, progress: Progress, probe: Probe) -> None:
        """Set `K` for the windows to come; called before every window.

        Arguments:
            progress: where training is.
            probe: measures the bias at the present parameters; a call makes `probe.probes` probes, counted in
                `adaptive_epoch`.
        """

    def check_scheme(self, scheme: str) -> None:
        """Raise a `ConfigError` for a scheme that makes no sense with it."""
        return  # none does by default

    def adjoint_factors(self, steps: int) -> Sequence[float] | None:
        """Factors that multiply the gradient with respect to the state on its way back through a window.

        There are `steps - 1`, the first between the second step and the first. None leaves the gradient as it is. For
        scheme `tf` only, whose windows are what lies between two cuts.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint stores of it."""
        return dict(vars(self))

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to what that was when `state_dict` was called."""
        vars(self).update(saved)


class _Completed(Policy):
    """An object with `K` and `update`, and what it lacks of a policy.

    Arguments:
        given: the object.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        self.probes = _reads_second_argument(given.update)
        for name in ("probes", "estimator", "confidence", "check_scheme", "adjoint_factors"):
            if hasattr(given, name):
                setattr(self, name, getattr(given, name))

    @property
    def base(self) -> float | None:  # type: ignore[override]
        """At present: an update, or going back to a checkpoint, may change it."""
        base: float | None = getattr(self.given, "base", None)
        return base

    @property
    def K(self) -> int:  # noqa: N802  (the field's name for a length)
        K: int = self.given.K
        return K

    @K.setter
    def K(self, K: int) -> None:  # noqa: N802
        self.given.K = K

    def update(self, progress: Progress, probe: Probe) -> None:
        self.given.update(progress, probe)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self.given))

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        vars(self.given).update(saved)


def _reads_second_argument(method: Callable[..., object]) -> bool:
    """Whether a method does anything with its second argument; False where its code cannot be looked at."""
    code = getattr(method, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    second = code.co_varnames[: code.co_argcount][1 + inspect.ismethod(method) :][:1]
    read = [part.argval for part in dis.get_instructions(code) if "CONST" not in part.opname]
    # Some instructions read two variables, whose names are a tuple.
    return any(name in (part if isinstance(part, tuple) else (part,)) for name in second for part in read)


def completed(given: AnyPolicy) -> Policy:
    """The object as a policy: itself, or with the defaults of `Policy` where it does not derive from it.

    Raises:
        ConfigError: it is no policy, or none that a checkpoint can store.
    """
    kind = "type" if isinstance(given, type) else kind_of(given)  # a class was given, not an object
    K = getattr(given, "K", None)
    require(isinstance(K, int) and K >= 1, "K", K, f"must be an integer from 1 on in an object of {kind}")
    require(callable(getattr(given, "update", None)), "_target_", kind, "must have a method update")
    try:
        policy = given if isinstance(given, Policy) else _Completed(given)
        pickle.dumps(policy.state_dict())
    except Exception as error:  # no __dict__, or something in it that no file can hold
        raise ConfigError("_target_", f"(={kind}) cannot be stored in a checkpoint: {error}") from error
    return policy


def kind_of(policy: AnyPolicy) -> str:
    """The name of its class."""
    return type(policy.given if isinstance(policy, _Completed) else policy).__name__


def update(policy: Policy, progress: Progress, probe: Probe) -> None:
    """Let the policy set its K for the next window, and check it (ConfigError)."""
    policy.update(progress, probe)
    try:
        policy.K = operator.index(policy.K)  # a user's policy may leave a numpy integer
    except TypeError:
        require(False, "truncation.K", policy.K, "must be an integer after an update")
    require(policy.K >= 1, "truncation.K", policy.K, "must be at least 1 after an update")


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
