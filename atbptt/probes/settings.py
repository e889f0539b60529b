"""Settings of probes: their window, their loss positions, and how the bias is estimated."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeVar

import numpy as np

from atbptt.errors import require, require_choice, show
from atbptt.system import require_memory

SCHEMES = ("original-buffer", "original", "tf", "double-tf", "buffer")  # windows/schemes.py cuts streams by them
AVERAGES = ("mean", "geometric")
DECAY_FITS = ("ols", "max", "quantile")
KEPT_NORMS = ("of_mean", "sum")
MOST = {"probes": 1000, "resamples": 100_000}  # more take hours, and say no more
SKETCH = 128  # random projections from which the norms of resampled gradients are estimated
FEW_SKETCHES = 32  # the same for the noise alone, which is a mean over all losses
# Former names of options: still accepted, and the ones in stored runs and in their ids.
FORMER_NAMES = {"estimator": "decay_fit"}

Lengths = TypeVar("Lengths", int, float, np.ndarray)  # in steps
Call = TypeVar("Call", bound=Callable[..., Any])


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their present names.

    Raises:
        ConfigError: an option has different values under its two names.
    """
    for former, name in FORMER_NAMES.items():
        if former in options and name in options:
            rule = f"is the former name of {name}, which is given too (={show(options[name])})"
            require(options[former] == options[name], former, options[former], rule)
    return {FORMER_NAMES.get(name, name): value for name, value in options.items()}


def taking_former_names(call: Call) -> Call:
    """The same call, which accepts keywords by their former names too."""

    @functools.wraps(call)
    def taking(*arguments: Any, **options: Any) -> Any:
        return call(*arguments, **renamed(options))

    return taking  # type: ignore[return-value]


def lengths_seen(scheme: str, K: Lengths) -> tuple[Lengths, Lengths]:
    """The fewest and the most steps through which a full window's losses are backpropagated, at each K.

    One loss of the window has each length from the first to the second. With `buffer`, whose losses reach cells of
    several windows, they have these lengths on average.
    """
    require_choice("scheme", scheme, SCHEMES)
    first = K * 0 + 1 if scheme in ("tf", "double-tf") else K  # as many as there are K
    return first, K if scheme in ("original", "tf") else 2 * K - 1


@dataclass(frozen=True)
class ProbeSettings:
    """How gradients at every lag are measured and turned into a bias estimate.

    Attributes:
        window: W, steps that a probe backpropagates through.
        tau: lags whose measured norms are summed; the fitted decay is extrapolated beyond them.
        burn_in: steps from a zero state before the window, without gradient.
        positions: steps of the window's end whose loss is differentiated.
        probes: probes that are averaged for one estimate.
        resamples: bootstrap resamples of streams and positions, for intervals; 0 for none.
        average: of gradient norms over streams and positions, `mean` or `geometric`.
        decay_fit: `ols`, `max` or `quantile`, see docs/definitions.md.
        fit_from: first row of the decay's fit; tau if None.
        kept_norm: norm of the gradient that truncation keeps, `of_mean`; or `sum`, the sum of mean norms, with which
            the bound is an estimate and no bound.

    Raises:
        ConfigError: a value breaks its rule.
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
        lowest = {"window": 2, "tau": 1, "burn_in": 0, "positions": 1, "probes": 1, "resamples": 0, "fit_from": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None:
                require(isinstance(value, Integral), name, value, "must be a whole number")
                require(value >= least, name, value, f"must be greater than or equal to {least}")
        for name, most in MOST.items():
            require(getattr(self, name) <= most, name, getattr(self, name), f"must be at most {most}")
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

    def check_stream(self, length: int, stream: str = "the stream", name: str = "burn_in + window") -> None:
        """Raise a `ConfigError` unless a probe fits in a stream of this length."""
        rule = f"must not exceed {stream}'s {length} steps: a probe reads that many"
        require(self.steps <= length, name, self.steps, rule)

    def check_average(self) -> None:
        """Raise a `ConfigError` unless norms can be averaged where sequences begin within streams."""
        rule = "must be mean where sequences begin within streams: the geometric one of gradients that are 0 is 0"
        require(self.average == "mean", "average", self.average, rule)

    def check_memory(self, batch: int, components: int, numbers: int) -> None:
        """Raise a `ConfigError` if a probe needs more memory than is free, in numbers of 8 bytes.

        Arguments:
            batch: streams.
            components: of the model's state: each layer of each of its tensors.
            numbers: of the state of a stream.
        """
        W, P, R = self.window, self.positions, self.resamples
        steps = W * batch * numbers * 4  # what the model keeps for the way back
        norms = W * P * batch * (2 * components + 4 + SKETCH // 2)  # sketches are in single precision
        slopes = 3 * W**2 if self.decay_fit == "quantile" else 0
        require_memory("window", W, 8 * (steps + slopes), f"with {batch} streams")
        require_memory("positions", P, 8 * norms, f"with window (={W}) and {batch} streams")
        resampled = W * (3 * SKETCH + 2 * components + 8) + 2 * P * batch
        require_memory("resamples", R, 8 * R * resampled, f"with window (={W}), positions (={P}) and {batch} streams")

    @property
    def loss_positions(self) -> list[int]:
        """Steps of the window whose loss is differentiated, evenly spaced up to its last one, in ascending order.

        They are as far apart as tau allows: every position has a state at lags 1..tau+1, those that the bias estimate
        sums. Larger lags are only used for the fit of the decay, and averaged over the positions that have them.
        """
        last = self.window - 1
        spacing = (last - self.tau) // max(self.positions - 1, 1)
        return [last - spacing * number for number in reversed(range(self.positions))]


ProbeSettings.__init__ = taking_former_names(ProbeSettings.__init__)  # type: ignore[method-assign]


def default_tau(window: int) -> int:
    """Three quarters of a probe's window, but at least two rows less, for the fit of the decay."""
    return max(1, min(3 * window // 4, window - 2))
