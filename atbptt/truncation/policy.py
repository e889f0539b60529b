"""The protocol of truncation policies, the arguments they receive, and schedules in epochs."""

import dis
import inspect
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, Protocol

from atbptt.errors import ConfigError, require, require_whole
from atbptt.probes import BiasEstimate
from atbptt.system import plain

BEYOND_ANY_STREAM = 2**31 - 1  # steps


@dataclass(frozen=True)
class Progress:
    """Training progress. Schedules count steps, so that they do not depend on the machine.

    Attributes:
        step: training steps so far, over all epochs.
        epoch_steps: steps in an epoch: the stream's length T, or with many batches those of all of them.
        left: steps to the end of the stream that is read.
    """

    step: int
    epoch_steps: int
    left: int = BEYOND_ANY_STREAM


class Probe(Protocol):
    """Measures the relative bias at the present parameters."""

    def __call__(
        self, *, measured: bool = False, resampled: bool = False, noise: bool = False
    ) -> Sequence[BiasEstimate]:
        """One estimate for each probe that is finite.

        Arguments:
            measured: measure the scheme's bias besides bounding it, which takes 1.5 to 2.4 times as long.
            resampled: resample streams and positions, for intervals and confidence.
            noise: with `measured`, measure the noise of the gradient.
        """


class AnyPolicy(Protocol):
    """The least that a policy needs, see `Policy`."""

    K: int

    def update(self, progress: Progress, probe: Probe) -> None:
        """Set `K` for the windows to come."""


class Policy(ABC):
    """Decides K. Your own policy derives from it, or has `K` and `update` only and the defaults below.

    A checkpoint stores the object's `__dict__`.

    Attributes:
        K: the truncation length in steps, at least 1.
        base: a length in steps, or None. For policies that draw K anew for every window: the learning rate is scaled
            with `base` instead of K, and multiplied by the window's losses over those of a window of length `base`.
            Otherwise the steps of short windows would count more.
        probes: whether `update` calls `probe`. Such a policy is refused before the first window if probes cannot be
            made. For an object without the attribute, found from the code of its `update`.
        estimator: of the relative bias that it uses, `bound` or `measured`; not every model's bias can be measured.
        noise: whether it uses the noise of the gradient, which not every model's probes can measure.
        confidence: not None if it uses the share of resamples whose bias is small enough, see `Adaptive`.
    """

    K: int
    base: float | None = None
    probes: bool = False
    estimator: str = "bound"
    confidence: float | None = None
    noise: bool = False

    @abstractmethod
    def update(self, progress: Progress, probe: Probe) -> None:
        """Set `K` for the windows to come; called before every window.

        Arguments:
            progress: where training is.
            probe: measures the bias at the present parameters. Each call makes `probe.probes` probes, whose steps
                count in `adaptive_epoch`.
        """

    def check_scheme(self, scheme: str) -> None:
        """Raise a `ConfigError` for a scheme that does not work with the policy; every scheme works by default."""
        return

    def adjoint_factors(self, steps: int) -> Sequence[float] | None:
        """Factors that multiply the gradient with respect to the state on its way back through a window.

        There are `steps - 1`, the first between the second step and the first; None changes nothing. For scheme `tf`
        only, whose windows are what lies between two cuts.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """The policy's part of a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to where it was when `state_dict` was called."""
        vars(self).update(saved)


def completed(given: AnyPolicy) -> Policy:
    """The object as a policy: itself, or with the defaults of `Policy` if it does not derive from it.

    Raises:
        ConfigError: it is no policy, or a checkpoint cannot store it.
    """
    kind = type(given).__name__
    rule = "must be an object with an attribute K and a method update"
    fits = hasattr(given, "K") and not isinstance(given, type)
    require(fits, "_target_", f"the class {given.__name__}" if isinstance(given, type) else kind, rule)
    K = given.K
    require(isinstance(K, int) and K >= 1, "K", K, f"must be an integer from 1 on in an object of {kind}")
    require(callable(getattr(given, "update", None)), "_target_", kind, "must have a method update")
    try:
        policy = given if isinstance(given, Policy) else type(kind, (_Completed,), {})(given)  # messages name its class
        plain(policy.state_dict(), "state_dict")
    except Exception as error:  # no __dict__, or it holds an object
        rule = "give it a state_dict() of tensors, numbers, texts, lists and dicts, and a load_state_dict()"
        raise ConfigError("_target_", f"(={kind}) cannot be stored in a checkpoint: {error}; {rule}") from error
    return policy


class _Completed(Policy):
    """An object with `K` and `update`, and the defaults of what it lacks."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.probes = _reads_second_argument(given.update)
        own = (
            "probes",
            "estimator",
            "confidence",
            "noise",
            "check_scheme",
            "adjoint_factors",
            "state_dict",
            "load_state_dict",
        )
        for name in own:
            if hasattr(given, name):
                setattr(self, name, getattr(given, name))

    @property
    def base(self) -> float | None:  # type: ignore[override]
        """An update, or going back to a checkpoint, may change it."""
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
        # Its functions are made by its constructor.
        return {name: value for name, value in vars(self.given).items() if not inspect.isroutine(value)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        vars(self.given).update(saved)


def _reads_second_argument(method: Callable[..., object]) -> bool:
    """Whether the method's code reads its second argument; False if it has no code in Python."""
    code = getattr(method, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    second = code.co_varnames[: code.co_argcount][1 + inspect.ismethod(method) :][:1]
    read = [part.argval for part in dis.get_instructions(code) if "CONST" not in part.opname]
    # Some instructions read two variables, whose names are a tuple.
    return any(name in (part if isinstance(part, tuple) else (part,)) for name in second for part in read)


def update(policy: Policy, progress: Progress, probe: Probe) -> None:
    """Let the policy set its K for the next window, and check it (ConfigError)."""
    policy.update(progress, probe)
    try:
        policy.K = operator.index(policy.K)  # a user's policy may set a numpy integer
    except TypeError:
        require(False, "truncation.K", policy.K, "must be an integer after an update")
    require(policy.K >= 1, "truncation.K", policy.K, "must be at least 1 after an update")


def check_lengths(K_init: int, K_min: int, K_max: int) -> None:
    """Raise a `ConfigError` unless a policy can begin with K_init and stay within K_min..K_max."""
    for name, K in (("K_init", K_init), ("K_min", K_min), ("K_max", K_max)):
        require_whole(name, K, 1)
    require(K_min <= K_max, "K_min", K_min, f"must not exceed K_max (={K_max})")
    require(K_min <= K_init <= K_max, "K_init", K_init, f"must lie in K_min..K_max (={K_min}..{K_max})")


def next_due(step: int, every: float, epoch_steps: int) -> int:
    """The first step after `step` that is due on a schedule of every `every` epochs of `epoch_steps` steps.

    The n-th is due at step n * every * epoch_steps, rounded up. Products of decimal fractions are a little off
    (3 * 0.2 * 60 is 36.00000000000001), which must not move a step.
    """
    interval = max(every * epoch_steps, 1.0)
    n = max(int(step / interval) - 1, 0)
    while (due := math.ceil(round(n * interval, 6))) <= step:
        n += 1
    return due
