"""Learning-rate schedules: the learning rate over the epochs of training, before it is scaled with K.

Without torch, since configs are read without it.
"""

import math
from typing import Any, Protocol

import numpy as np

from atbptt.errors import require, require_whole


class LrSchedule(Protocol):
    """Decides the learning rate. Your own needs `rate` only; the rest is optional.

    - `validated(value)` is called after every evaluation, the first of which is before training, with the value of the
      validation metric that the run monitors; lower is better, and it may be NaN.
    - `state_dict()` and `load_state_dict(saved)` are its part of a checkpoint: by default, the object's `__dict__`.
    """

    def rate(self, lr: float, epoch: float) -> float:
        """The learning rate of the next window, a finite number of at least 0.

        Arguments:
            lr: the option `lr`; the result is scaled with K (`lr_scaling`).
            epoch: passes over the stream so far, from 0. Steps are counted, not seconds.
        """


class _Warmed:
    """A schedule that begins with a learning rate that grows linearly."""

    def __init__(self, warmup: float) -> None:
        require(0 <= warmup < math.inf, "warmup", warmup, "must be at least 0 (epochs)")
        self.warmup = warmup

    def _warmed(self, lr: float, epoch: float) -> float:
        return lr if epoch >= self.warmup else lr * epoch / self.warmup


class NoDecay(_Warmed):
    """The learning rate stays.

    Arguments:
        warmup: epochs in which it grows linearly from 0 first.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, warmup: float = 0.0) -> None:
        super().__init__(warmup)

    def rate(self, lr: float, epoch: float) -> float:
        """The learning rate at an epoch."""
        return self._warmed(lr, epoch)


class InverseSqrtDecay(_Warmed):
    """The learning rate over the square root of the epoch's number, counted from 1 after the warmup.

    Arguments:
        warmup: epochs in which it grows linearly from 0 first.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, warmup: float = 0.0) -> None:
        super().__init__(warmup)

    def rate(self, lr: float, epoch: float) -> float:
        """The learning rate at an epoch."""
        return self._warmed(lr, epoch) / math.sqrt(math.floor(max(epoch - self.warmup, 0.0)) + 1)


class StepDecay(_Warmed):
    """The learning rate is multiplied by a factor at each of some epochs.

    Arguments:
        epochs: when, counted from the start of training: `[5, 10]`.
        factor: by how much.
        warmup: epochs in which it grows linearly from 0 first.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, epochs: list[float], factor: float = 0.25, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        some = len(epochs) > 0 and all(0 < epoch < math.inf for epoch in epochs)
        require(some, "epochs", list(epochs), "must be a list of epochs greater than 0")
        require(0 < factor < math.inf, "factor", factor, "must be greater than 0")
        self.epochs = list(epochs)
        self.factor = factor

    def rate(self, lr: float, epoch: float) -> float:
        """The learning rate at an epoch."""
        return self._warmed(lr, epoch) * self.factor ** sum(epoch >= each for each in self.epochs)


class PlateauDecay(_Warmed):
    """The learning rate is multiplied by a factor when the validation has not got better, as for language models.

    Arguments:
        factor: by how much.
        patience: evaluations without a better one than the best so far, after which it is; each time anew.
        warmup: epochs in which it grows linearly from 0 first.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, factor: float = 0.25, patience: int = 1, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        require(0 < factor < 1, "factor", factor, "must be greater than 0 and less than 1")
        require_whole("patience", patience, 1)
        self.factor = factor
        self.patience = patience
        self.best: float | None = None  # the lowest value so far
        self.waited = 0  # evaluations since then, or since the last multiplication
        self.multiplier = 1.0

    def validated(self, value: float) -> None:
        """Take the validation of an evaluation into account; NaN is as bad as infinity."""
        value = math.inf if math.isnan(value) else value
        if self.best is None or value < self.best:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited == self.patience:
            self.multiplier, self.waited = self.multiplier * self.factor, 0

    def rate(self, lr: float, epoch: float) -> float:
        """The learning rate at an epoch."""
        return self._warmed(lr, epoch) * self.multiplier


class CosineDecay(_Warmed):
    """The learning rate falls along half a cosine, after the warmup, and stays where it ends.

    Arguments:
        epochs: when it ends, counted from the start of training.
        final: the factor then.
        warmup: epochs in which it grows linearly from 0 first.

    Raises:
        ConfigError: an argument breaks its rule.
    """

    def __init__(self, epochs: float, final: float = 0.0, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        rule = f"must be greater than warmup (={warmup:g} epochs)"
        require(warmup < epochs < math.inf, "epochs", epochs, rule)
        require(0 <= final <= 1, "final", final, "must be at least 0 and at most 1")
        self.epochs = epochs
        self.final = final

    def rate(self, lr: float, epoch: float) -> float:
        """The learning rate at an epoch."""
        share = min(max(epoch - self.warmup, 0.0) / (self.epochs - self.warmup), 1.0)
        return self._warmed(lr, epoch) * (self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2)


class CheckedSchedule:
    """A schedule as training uses it: with what it lacks, and its rates checked."""

    def __init__(self, given: Any) -> None:
        """Raises a ConfigError for an object that is no schedule."""
        kind = "type" if isinstance(given, type) else type(given).__name__  # a class was given, not an object
        require(callable(getattr(given, "rate", None)), "_target_", kind, "must have a method rate(lr, epoch)")
        self.given = given

    def rate(self, lr: float, epoch: float) -> float:
        """The learning rate at an epoch (ConfigError if it is none)."""
        rate = self.given.rate(lr, epoch)
        number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
        fits = number and 0 <= rate < math.inf
        require(fits, f"rate(lr={lr:g}, epoch={epoch:g})", rate, "must be a finite number of at least 0")
        return float(rate)

    def validated(self, value: float) -> None:
        if hasattr(self.given, "validated"):
            self.given.validated(value)

    def state_dict(self) -> dict[str, Any]:
        own: dict[str, Any] = self.given.state_dict() if hasattr(self.given, "state_dict") else dict(vars(self.given))
        return own

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        if hasattr(self.given, "load_state_dict"):
            self.given.load_state_dict(saved)
        else:
            vars(self.given).update(saved)
