"""The density of the time to the next event (Du et al., "Recurrent Marked Temporal Point Processes", KDD 2016,
eq. 12 to 14).

The rate after an event starts at exp(log_rate) and grows as exp(w t), so that the next interval has the density

    log f(dt) = log_rate + w dt - R(dt),    R(dt) = (exp(log_rate + w dt) - exp(log_rate)) / w.

The cumulative rate R is 0/0 at w = 0 and overflows for large w dt; its logarithm, which is computed here, is neither:
log_rate + log dt + log((exp(x) - 1) / x) with x = w dt.
"""

import numpy as np
import torch
from torch import Tensor

SERIES = 0.1  # below it the series of `log_mean_growth` has an error of 1e-15; above, nothing cancels
# A cumulative rate beyond exp(15) never occurs in data. It is continued as a straight line, so that value and gradient
# are finite and point to smaller rates.
LARGEST_EXPONENT = 15.0
QUADRATURE_POINTS = 64
QUADRATURE_SPAN = 25.0  # of log R, downwards: less than exp(-25) of the integral lies below
LARGEST_SEEN = 40.0  # R beyond which less than exp(-40) of the density lies


def log_density(log_rate: Tensor, w: Tensor, interval: Tensor) -> Tensor:
    """log f(dt) in nats; the arguments are broadcast, `w` may be 0 or of any sign, the interval dt at least 0."""
    return log_rate + w * interval - _exp(_log_cumulative_rate(log_rate, w, interval))


def mean_interval(log_rate: Tensor, w: Tensor, longest: float) -> Tensor:
    """The integral of t f(t) over 0..longest, by quadrature; the shape of `log_rate`.

    It is the mean of f without the part beyond `longest`, and for w < 0 without the chance that no event ever comes.
    The variable of integration is log R, in which the density is exp(log R - R) for any rate and growth; in t it may be
    narrow, and anywhere over many decades. Better in float64.
    """
    whole = _log_cumulative_rate(log_rate, w, torch.full_like(log_rate, longest))
    top = whole.clamp(max=float(np.log(LARGEST_SEEN)))
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_POINTS)
    mean = torch.zeros_like(log_rate)
    for s, weight in zip((nodes + 1) / 2, weights / 2, strict=True):  # one by one: all at once take memory
        # Closer together at the top, where with w < 0 the time goes to infinity as a logarithm.
        log_R = top - QUADRATURE_SPAN * s**3
        density = (log_R - log_R.exp()).exp()
        mean += weight * 3 * QUADRATURE_SPAN * s**2 * density * _time_at(log_rate, w, log_R).clamp(max=longest)
    return mean


def log_mean_growth(x: Tensor) -> Tensor:
    """log((exp(x) - 1) / x): exact near 0, without overflow anywhere."""
    # Both sides of `where` must be finite, or the gradient of the side not taken is NaN.
    near = x.abs() < SERIES
    small = torch.where(near, x, 0.0)
    square = small.square()
    series = small / 2 + square * (1 / 24 - square * (1 / 2880 - square / 181440))
    large = torch.where(near, 1.0, x)
    size = large.abs()
    direct = torch.relu(large) + (-torch.expm1(-size)).log() - size.log()
    return torch.where(near, series, direct)


def _log_cumulative_rate(log_rate: Tensor, w: Tensor, interval: Tensor) -> Tensor:
    return log_rate + interval.log() + log_mean_growth(w * interval)


def _time_at(log_rate: Tensor, w: Tensor, log_R: Tensor) -> Tensor:
    """The time t at which R(t) is exp(log_R): log(1 + y) / w with y = w exp(log_R - log_rate)."""
    without_growth = (log_R - log_rate).exp()
    y = (w * without_growth).clamp(min=-1.0)  # with w < 0, R comes no further than y = -1
    near = y.abs() < 1e-6
    return torch.where(near, without_growth * (1 - y / 2), y.log1p() / torch.where(near, 1.0, w))


def _exp(exponent: Tensor) -> Tensor:
    """exp, continued as its tangent beyond `LARGEST_EXPONENT`."""
    beyond = torch.relu(exponent - LARGEST_EXPONENT)
    return exponent.clamp(max=LARGEST_EXPONENT).exp() * (1 + beyond)
