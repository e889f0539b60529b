"""How a probe measures: its window, its loss positions, how the bias is estimated from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from atbptt.errors import require, require_choice, show

AVERAGES = ("mean", "geometric")
DECAY_FITS = ("ols", "max", "quantile")
KEPT_NORMS = ("of_mean", "sum")
# Options by their former names, which are still taken, and under which runs are stored and known by their id.
FORMER_NAMES = {"estimator": "decay_fit"}

Call = TypeVar("Call", bound=Callable[..., Any])


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their present names.

    Raises:
        ConfigError: one is given by both names, with two values.
    """
    for former, name in FORMER_NAMES.items():
        if former in options and name in options:
            rule = f"is the former name of {name}, which is given too (={show(options[name])})"
            require(options[former] == options[name], former, options[former], rule)
    return {FORMER_NAMES.get(name, name): value for name, value in options.items()}


def taking_former_names(call: Call) -> Call:
    """The same call, which takes keywords by their former names too."""

    @functools.wraps(call)
    def taking(*arguments: Any, **options: Any) -> Any:
        return call(*arguments, **renamed(options))

    return taking  # type: ignore[return-value]


@dataclass(frozen=True)
class ProbeSettings:
    """How gradients at every lag are measured and turned into a bias estimate.

    Attributes:
        window: W, steps that a probe backpropagates through.
        tau: rows of measured lags that are summed; beyond, the fitted decay is extrapolated.
        burn_in: steps from a zero state before the window, without gradient.
        positions: loss positions a probe, spread over the window's end.
        probes: probes that are averaged for one estimate.
        resamples: bootstrap resamples of streams and positions, for intervals; 0 for none.
        average: of gradient norms over streams and positions, `mean` or `geometric`.
        decay_fit: of the decay, `ols`, `max` or `quantile`.
        fit_from: first row of the decay's fit; None is tau.
        kept_norm: norm of the gradient kept, `of_mean` or `sum`.

    Raises:
        ConfigError: a value breaks a rule, alone or beside the others.
    """

    window: int = 40
    tau: int = 30
    burn_in: int = 20
    positions: int = 4
    probes: int = 1
    resamples: int = 100
    average: str = "mean"
    decay_fit: str = "ols"
    fit_from: int | None = None
    kept_norm: str = "of_mean"

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (where a config is read, unknown keys are errors)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None:
                require(value >= least, name, value, f"must be greater than or equal to {least}")
        require_choice("average", self.average, AVERAGES)
        require_choice("decay_fit", self.decay_fit, DECAY_FITS)
        require_choice("kept_norm", self.kept_norm, KEPT_NORMS)
        rule = f"must be smaller than the probe's window (={self.window})"
        require(self.tau < self.window, "tau", self.tau, rule)
        fit = ("tau", self.tau) if self.fit_from is None else ("fit_from", self.fit_from)
        rule = f"must leave the decay's fit 2 rows of the probe window: at most window - 2 (={self.window - 2})"
        require(fit[1] <= self.window - 2, *fit, rule)
        rule = f"must not exceed window - tau (={self.window - self.tau})"
        require(self.positions <= self.window - self.tau, "positions", self.positions, rule)

    @property
    def steps(self) -> int:
        """Steps that one probe reads."""
        return self.burn_in + self.window

    @property
    def loss_positions(self) -> list[int]:
        """Steps of the window whose loss is differentiated, evenly spaced up to its last one, in ascending order.

        They are as far apart as tau allows: every position has a state at lags 1..tau+1, all that the sums of the bias
        estimate take; lags beyond serve the fit of the decay only, and are averaged over the positions that have them.
        """
        last = self.window - 1
        spacing = (last - self.tau) // max(self.positions - 1, 1)
        return [last - spacing * number for number in reversed(range(self.positions))]


ProbeSettings.__init__ = taking_former_names(ProbeSettings.__init__)  # type: ignore[method-assign]

_LEAST = {"window": 2, "tau": 1, "burn_in": 0, "positions": 1, "probes": 1, "resamples": 0, "fit_from": 0}


def default_tau(window: int) -> int:
    """Three quarters of a probe's window, which leave the decay's fit two rows at least."""
    return max(1, min(3 * window // 4, window - 2))
