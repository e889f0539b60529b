"""How far back a network must backpropagate, in numbers and words: what a probe's norms and biases say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atbptt.probes import RelativeBias
from atbptt.runs.schema import INTERVAL

SHORT = 0.5  # of the window: a measured K(delta) beyond it may be longer, since beyond the window nothing is seen
SHARES = (0.1, 0.01, 0.001)  # of phi at lag 1


def lag_of_share(phi: np.ndarray, share: float) -> int | None:
    """The first lag from which on phi is at most a share of phi at lag 1; None where the window ends before.

    Arguments:
        phi: (W,), row 0 is lag 1.
        share: below 1.
    """
    above = np.flatnonzero(phi > share * phi[0])
    last = int(above[-1]) + 1 if len(above) else 0
    return None if last == len(phi) else last + 1


def half_life(log_beta: float) -> float:
    """Lags in which phi halves: infinite where it does not fall."""
    return math.log(0.5) / log_beta if log_beta < 0 else math.inf


def shown_lags(window: int) -> list[int]:
    """Lags 1, 2, 5, 10, 20, ... of a window, and its last."""
    decades = range(len(str(window)))
    return [lag for decade in decades for step in (1, 2, 5) if (lag := step * 10**decade) < window] + [window]


@dataclass(frozen=True)
class Length:
    """K(delta) in steps with its interval: infinite where no K has so small a bias, NaN ends without resamples."""

    steps: float
    low: float
    high: float

    @property
    def interval(self) -> str:
        """`9 to 13`, nothing where there is none."""
        return "" if math.isnan(self.low) else f"{_length(self.low)} to {_length(self.high)}"

    def __str__(self) -> str:
        return _length(self.steps)


def length_of(bias: RelativeBias, delta: float) -> Length:
    """K(delta) of a bias, between the ends that `INTERVAL` of the resamples lie in."""
    K = bias.truncation(delta)
    return Length(math.inf if K is None else K, *bias.interval(delta, INTERVAL))


@dataclass(frozen=True)
class Lengths:
    """K(delta) by the bound, and as measured where that is known."""

    delta: float
    bound: Length
    measured: Length | None


def too_short(lengths: Sequence[Lengths], window: int) -> list[float]:
    """The deltas whose K, as measured, is so near to W that the window hides how much longer it is."""
    return [each.delta for each in lengths if each.measured and each.measured.steps > SHORT * window]


def answer(lengths: Sequence[Lengths], window: int) -> str:
    """How far back the network must backpropagate, in a sentence."""
    short = too_short(lengths, window)

    def needed(each: Lengths) -> str:
        length = each.bound if each.measured is None else each.measured
        if length.steps == math.inf:
            return f"farther than the bound can tell for {each.delta:g}"
        return f"{'at least ' if each.delta in short else ''}{_steps(length.steps)} for {each.delta:g}"

    parts = [needed(each) for each in lengths]
    parts[0] = parts[0].replace(" for ", " for a relative bias of at most ")
    if lengths[0].measured is None:
        return f"By the bound, this network must backpropagate {_joined(parts)}."
    bound = _joined([_length(each.bound.steps) for each in lengths])
    return f"This network must backpropagate {_joined(parts)}, as measured; by the bound, {bound}."


def judgement(lengths: Sequence[Lengths], K: int, window: int) -> str:
    """For which deltas the present K is long enough, in a sentence; not for those that the window hides."""
    short = too_short(lengths, window)
    known = [each for each in lengths if each.delta not in short]
    enough = [f"{each.delta:g}" for each in known if (each.measured or each.bound).steps <= K]
    if not enough and short:
        return f"Whether its present K = {K} is long enough, the window does not tell."
    if not enough:
        return f"Its present K = {K} is too short for {'any of these' if len(lengths) > 1 else 'that'}."
    return f"Its present K = {K} is long enough for {_joined(enough)}."


def _length(steps: float) -> str:
    return "none" if steps == math.inf else f"{steps:.0f}"


def _steps(steps: float) -> str:
    return f"{steps:.0f} step{'' if steps == 1 else 's'}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
