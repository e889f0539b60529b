"""Relative bias of truncated gradients, from the norms of gradients at each lag: pure functions.

Source: Aicher, Foti & Fox, "Adaptively Truncating Backpropagation Through Time to Control Gradient Bias"
(UAI 2019), with the definitions of docs/definitions.md. Lags count from 1: row 0 of an array is lag 1, and
`tau` and `fit_from` count rows. K counts lags, so row K is the first lag that truncation at K drops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atbptt.errors import require, require_choice

DECAY_ESTIMATORS = ("ols", "max", "quantile")
AVERAGES = ("mean", "geometric")
KEPT_NORMS = ("of_mean", "sum")
QUANTILE = 0.95  # of all pairwise slopes, for `quantile`
NO_SIGNAL = 1e-22  # lags whose phi is at most this fraction of the largest are left out of the fit


def average_norms(norms: np.ndarray, average: str = "mean") -> np.ndarray:
    """phi per lag, (W,): norms (W, B) averaged over streams, (P, W, B) over loss positions too.

    A lag that a position lacks is NaN for all its streams, and left out; any other NaN is handed on.

    `mean`, or `geometric`: exp of the mean of log phi, which streams with rare large gradients move less.
    """
    require_choice("average", average, AVERAGES)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (np.log(norms) if average == "geometric" else norms).mean(axis=-1)
        if values.ndim == 2:
            present = ~np.isnan(values)
            values = np.where(present, values, 0).sum(axis=0) / present.sum(axis=0)
        return np.exp(values) if average == "geometric" else values


def log_decay_rate(phi: np.ndarray, tau: int, estimator: str = "ols", fit_from: int | None = None) -> float:
    """log beta, the slope of log phi over lags, in nats per lag; -inf where too few lags carry signal.

    Arguments:
        phi: averaged gradient norms, (W,).
        tau: the row where the extrapolated tail begins.
        estimator: `ols` fits a line to rows fit_from..W-1; `max` is the steepest rise from the first row of
            the fit to any later one; `quantile` the 0.95 quantile of the slopes between any two rows.
        fit_from: the first row fitted; tau if left out, 0 as in the released code.
    """
    require_choice("estimator", estimator, DECAY_ESTIMATORS)
    first = tau if fit_from is None else fit_from
    require(0 <= first < len(phi), "fit_from", first, f"must lie in 0..{len(phi) - 1}")
    rows = np.arange(first, len(phi))
    carried = phi[first:] > NO_SIGNAL * np.nanmax(phi)
    rows, log_phi = rows[carried], np.log(phi[first:][carried])
    if len(rows) < 2:
        return -np.inf
    if estimator == "ols":
        centred = rows - rows.mean()
        return float(centred @ (log_phi - log_phi.mean()) / (centred @ centred))
    if estimator == "max":
        return float(np.max((log_phi[1:] - log_phi[0]) / (rows[1:] - rows[0])))
    earlier, later = np.triu_indices(len(rows), k=1)
    slopes = (log_phi[later] - log_phi[earlier]) / (rows[later] - rows[earlier])
    return float(np.quantile(slopes, QUANTILE))


def absolute_error(phi: np.ndarray, tau: int, log_beta: float, longest: int | None = None) -> np.ndarray:
    """E(K) for K = 1..longest (W if left out): what truncation at K drops, up to the paper's factor M.

    E(K) = sum of phi over lags K+1..tau, plus the tail from lag tau+1 as a geometric series of ratio beta;
    for K >= tau, E(K) = phi_{tau+1} beta^(K-tau) / (1-beta). Infinite for every K where beta >= 1. With too
    little signal to fit a decay (beta = 0) the measured lags up to W are summed, and nothing beyond them.
    """
    window = len(phi)
    require(1 <= tau < window, "tau", tau, f"must be at least 1 and smaller than the probe window W (={window})")
    K = np.arange(1, (longest or window) + 1)
    if log_beta >= 0:
        return np.full(len(K), np.inf)
    summed = window if log_beta == -np.inf else tau
    dropped = np.append(np.cumsum(phi[:summed][::-1])[::-1], 0.0)  # row K: lags K+1..summed
    error = dropped[np.minimum(K, summed)]
    if summed == tau:
        error += phi[tau] / -np.expm1(log_beta) * np.exp(np.maximum(K - tau, 0) * log_beta)
    return error


def relative_bias(error: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """delta(K) = E(K) / max_j (g_j - E(j)); infinite where the gradient has no positive lower bound.

    Arguments:
        error: E(K), for K = 1, 2, ...
        kept: g_j, the norm of the gradient that truncation at j keeps, (W,).
    """
    shared = min(len(error), len(kept))
    lower_bound = np.nanmax(kept[:shared] - error[:shared])
    if not lower_bound > 0:
        return np.full(len(error), np.inf)
    return error / lower_bound


def truncation_length(bias: np.ndarray, delta: float) -> int | None:
    """K(delta): the smallest K with delta(K) <= delta, or None where there is none."""
    allowed = np.flatnonzero(bias <= delta)
    return int(allowed[0]) + 1 if len(allowed) else None


@dataclass(frozen=True)
class BiasEstimate:
    """What one probe says about truncation.

    Attributes:
        phi: averaged gradient norm per lag, (W,); row 0 is lag 1.
        log_beta: log of the decay per lag beyond tau.
        error: E(K) for K = 1, 2, ..., at least W of them.
        bias: delta(K), the relative bias, for the same K.
    """

    phi: np.ndarray
    log_beta: float
    error: np.ndarray
    bias: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether the probe met no NaN or overflow."""
        return bool(np.isfinite(self.phi).all())

    def truncation(self, delta: float) -> int | None:
        """K(delta), or None where no K has so small a bias."""
        return truncation_length(self.bias, delta)

    def bias_at(self, K: int) -> float:
        """delta(K) of one truncation length; of the longest estimated, where K exceeds it."""
        return float(self.bias[min(K, len(self.bias)) - 1])


def estimate_bias(
    norms: np.ndarray,
    kept_of_mean: np.ndarray,
    tau: int,
    *,
    average: str = "mean",
    estimator: str = "ols",
    fit_from: int | None = None,
    kept_norm: str = "of_mean",
    longest: int | None = None,
) -> BiasEstimate:
    """From a probe's norms to delta(K).

    Arguments:
        norms: phi per stream, (P, W, B) or (W, B).
        kept_of_mean: norm of the cumulative mean gradient, (W,).
        tau: rows before it are summed as measured, the tail is extrapolated from it.
        average: over streams and positions, `mean` or `geometric`.
        estimator, fit_from: of the decay, see `log_decay_rate`.
        kept_norm: `of_mean` takes `kept_of_mean` for g_j, `sum` the cumulative sum of mean phi.
        longest: largest K of interest, where it exceeds W.
    """
    require_choice("kept_norm", kept_norm, KEPT_NORMS)
    phi = average_norms(norms, average)
    longest = max(longest or 0, len(phi))
    if not np.isfinite(phi).all():
        return BiasEstimate(phi, np.nan, np.full(longest, np.nan), np.full(longest, np.nan))
    log_beta = log_decay_rate(phi, tau, estimator, fit_from)
    error = absolute_error(phi, tau, log_beta, longest)
    kept = kept_of_mean if kept_norm == "of_mean" else np.cumsum(average_norms(norms, "mean"))
    return BiasEstimate(phi, log_beta, error, relative_bias(error, kept))
