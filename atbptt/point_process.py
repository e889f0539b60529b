"""The density of the time to the next event: pure functions (Du et al., "Recurrent Marked Temporal Point
Processes", KDD 2016, eq. 12 to 14).

The rate after an event starts at exp(log_rate) and grows as exp(w t), so that the next interval has the density

    log f(dt) = log_rate + w dt + (exp(log_rate) - exp(log_rate + w dt)) / w.

The last term is minus the cumulative rate, exp(log_rate) dt (exp(x) - 1) / x with x = w dt, which is 0/0 at w = 0
and overflows for large x; here it is exp(log_rate + log dt + log((exp(x) - 1) / x)), and its exponent is known to
full precision for every x.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Below it the series of `log_mean_growth` has an error of 1e-15; above, nothing cancels.
SERIES = 0.1
# A cumulative rate beyond exp(30) has no chance to be seen. It is continued as a straight line, so that value and
# gradient are finite, and point to where the rate is smaller.
LARGEST_EXPONENT = 30.0


def log_density(log_rate: Tensor, w: Tensor, interval: Tensor) -> Tensor:
    """log f(dt), in nats; all arguments are broadcast against each other.

    Arguments:
        log_rate: log of the rate right after the event before, in events per unit of time.
        w: growth of the log rate, per unit of time; any sign, 0 included.
        interval: dt, at least 0.
    """
    x = w * interval
    return log_rate + x - _exp(log_rate + interval.log() + log_mean_growth(x))


def log_mean_growth(x: Tensor) -> Tensor:
    """log((exp(x) - 1) / x), the log of the mean of exp over 0..x: exact near 0, without overflow anywhere."""
    # x / 2 is its odd part; the even part is log(sinh(x / 2) / (x / 2)). Each side of `where` gets only arguments
    # at which it is finite, or the gradient of the side not taken would be NaN.
    near = x.abs() < SERIES
    square = torch.where(near, x, 0.0).square()
    series = square * (1 / 24 - square * (1 / 2880 - square / 181440))
    size = torch.where(near, 1.0, x.abs())
    direct = size / 2 + (-torch.expm1(-size)).log() - size.log()
    return x / 2 + torch.where(near, series, direct)


def mean_interval(log_rate: Tensor, w: Tensor, times: Tensor, weights: Tensor) -> Tensor:
    """The mean of f by quadrature: sum of weights * times * f(times), for every log_rate; shapes as `log_rate`.

    The integral ends where the rule does. What f has beyond (with w < 0 also the chance that no event ever comes)
    counts nothing.

    Arguments:
        log_rate, w: as in `log_density`, of the same shape.
        times, weights: the quadrature rule, (N,).
    """
    density = log_density(log_rate.unsqueeze(-1), w.unsqueeze(-1), times).exp()
    return density @ (weights * times)


def log_rule(shortest: float, longest: float, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre times and weights in log t: as many points for every scale from shortest to longest.

    A density of intervals has its mass anywhere over the many decades that intervals have, where points evenly
    spaced in t miss it.
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    low, high = np.log(shortest), np.log(longest)
    times = np.exp(low + (high - low) * (nodes + 1) / 2)
    return times, weights * (high - low) / 2 * times


def _exp(exponent: Tensor) -> Tensor:
    """exp, continued as its tangent beyond `LARGEST_EXPONENT`."""
    beyond = torch.relu(exponent - LARGEST_EXPONENT)
    return exponent.clamp(max=LARGEST_EXPONENT).exp() * (1 + beyond)
