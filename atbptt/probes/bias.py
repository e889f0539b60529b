"""Relative bias of truncated gradients, from the norms of gradients at each lag: pure functions.

Source: Aicher, Foti & Fox, "Adaptively Truncating Backpropagation Through Time to Control Gradient Bias" (UAI 2019),
with the definitions of docs/definitions.md. Lags count from 1: row 0 of an array is lag 1, and `tau` and `fit_from`
count rows. K counts steps, the loss's own included: truncation at K keeps lags 0..K-1, so row K-1 is the first that it
drops. The paper counts lags: its delta(K), of a gradient that keeps lags 0..K, is the one of K + 1 steps here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atbptt.errors import require
from atbptt.probes.settings import ProbeSettings

if TYPE_CHECKING:
    from atbptt.probes.parameters import GradientNoise

ESTIMATORS = ("bound", "measured")  # of the bias
QUANTILE = 0.95  # of all pairwise slopes, for `quantile`
NO_SIGNAL = 1e-22  # lags whose phi is at most this fraction of the largest are left out of the fit


def resampling_weights(resamples: int, positions: int, streams: int, generator: np.random.Generator) -> np.ndarray:
    """Weight of each loss in each of R bootstrap resamples, (R, P, B); the sum over losses is 1.

    Streams and positions are drawn with replacement, independently of each other (Owen, "The pigeonhole bootstrap",
    Ann. Appl. Stat. 2007; its intervals tend to be wide).
    """

    def drawn(count: int) -> np.ndarray:
        return generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count

    return drawn(positions)[:, :, None] * drawn(streams)[:, None, :]


def average_norms(norms: np.ndarray, average: str = "mean", weights: np.ndarray | None = None) -> np.ndarray:
    """phi per lag, (W,): norms (W, B) averaged over streams, or (P, W, B) over streams and loss positions.

    A lag that a position lacks is NaN for all its streams and is left out; any other NaN makes the average NaN. With
    the weights of R resamples, (R, P, B), the average of each, (R, W); NaN where all its positions lack the lag.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(norms) if average == "geometric" else norms
        if weights is not None:
            values = _weighted_average(values, weights)
        else:
            values = values.mean(axis=-1)
            if values.ndim == 2:
                present = ~np.isnan(values)
                values = np.where(present, values, 0).sum(axis=0) / present.sum(axis=0)
        return np.exp(values) if average == "geometric" else values


def mean_norms(norms: np.ndarray, shares: np.ndarray | None, average: str = "mean") -> np.ndarray:
    """`average_norms` of the losses that count, by their shares (P, B) in the mean; of all if None."""
    return average_norms(norms, average) if shares is None else average_norms(norms, average, shares[None])[0]


def _weighted_average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(P, W, B) averaged with each of R weights, (R, W)."""
    losses = values.swapaxes(1, 2).reshape(-1, values.shape[1])  # (P B, W)
    weights = weights.reshape(len(weights), -1)
    finite = np.isfinite(losses)
    average = weights @ np.where(finite, losses, 0) / (weights @ ~np.isnan(losses))
    # Products with infinite numbers are NaN where the weight is 0.
    for infinite in (-np.inf, np.inf):
        average = np.where(weights @ (losses == infinite) > 0, infinite, average)
    return average


def log_decay_rate(phi: np.ndarray, settings: ProbeSettings) -> float:
    """log beta, the slope of log phi (W,) over lags, in nats per lag; -inf if too few lags carry signal.

    Fitted to rows fit_from..W-1. With `decay_fit` `ols` by a line; `max` is the steepest rise from the first row to any
    later one; `quantile` the 0.95 quantile of the slopes between any two rows.
    """
    first = settings.tau if settings.fit_from is None else settings.fit_from
    rows = np.arange(first, len(phi))
    carried = phi[first:] > NO_SIGNAL * np.nanmax(phi)
    rows, log_phi = rows[carried], np.log(phi[first:][carried])
    if len(rows) < 2:
        return -np.inf
    if settings.decay_fit == "ols":
        centred = rows - rows.mean()
        return float(centred @ (log_phi - log_phi.mean()) / (centred @ centred))
    if settings.decay_fit == "max":
        return float(np.max((log_phi[1:] - log_phi[0]) / (rows[1:] - rows[0])))
    earlier, later = np.triu_indices(len(rows), k=1)
    slopes = (log_phi[later] - log_phi[earlier]) / (rows[later] - rows[earlier])
    return float(np.quantile(slopes, QUANTILE))


def absolute_error(phi: np.ndarray, tau: int, log_beta: float | np.ndarray, longest: int | None = None) -> np.ndarray:
    """E(K) for K = 1..longest (W if left out): what truncation at K steps drops, up to the paper's factor M.

    E(K) = sum of phi over lags K..tau, plus the tail from lag tau+1 as a geometric series of ratio beta; for
    K > tau, E(K) = phi_{tau+1} beta^(K-1-tau) / (1-beta). Infinite for every K if beta >= 1. With too little signal to
    fit a decay (beta = 0), the measured lags up to W are summed. `phi` is (W,), or (R, W) with a log beta each.
    """
    last = np.arange(longest or phi.shape[-1])  # lag that is kept
    log_beta = np.asarray(log_beta, dtype=float)[..., None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        tail = phi[..., tau, None] / -np.expm1(log_beta)
        beyond = np.where(tau > last, tail, tail * np.exp((last - tau) * log_beta))
        extrapolated = _dropped(phi[..., :tau], last) + beyond
        error = np.where(log_beta == -np.inf, _dropped(phi, last), extrapolated)
    return np.where(log_beta >= 0, np.inf, error)


def _dropped(phi: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Sum of phi over the lags beyond each last one; an unknown lag (NaN) adds nothing."""
    sums = np.cumsum(np.nan_to_num(phi)[..., ::-1], axis=-1)[..., ::-1]
    sums = np.concatenate([sums, np.zeros((*phi.shape[:-1], 1))], axis=-1)  # row k: lags k+1..
    return sums[..., np.minimum(last, phi.shape[-1])]


def relative_bias(error: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """delta(K) = E(K) / max_j (g_j - e_j); infinite if that is not positive.

    `kept` is g_j, the norm of the gradient of lags 1..j, (W,) or of R resamples (R, W), and e_j what lags beyond j add,
    E(j + 1).
    """
    shared = min(error.shape[-1] - 1, kept.shape[-1])
    with np.errstate(invalid="ignore"):
        gaps = kept[..., :shared] - error[..., 1 : shared + 1]
        lower_bound = np.max(np.where(np.isnan(gaps), -np.inf, gaps), axis=-1, keepdims=True)
        return np.where(lower_bound > 0, error / np.where(lower_bound > 0, lower_bound, 1.0), np.inf)


def truncation_length(bias: np.ndarray, delta: float) -> int | None:
    """K(delta): the smallest K with delta(K) <= delta, or None if there is none."""
    allowed = np.flatnonzero(bias <= delta)
    return int(allowed[0]) + 1 if len(allowed) else None


def at_length(values: np.ndarray, K: int) -> float:
    """The value at K of values at K = 1, 2, ...; the last one if K exceeds them."""
    return float(values[min(K, len(values)) - 1])


@dataclass(frozen=True)
class RelativeBias:
    """The relative bias of truncation at K = 1, 2, ..., with resamples.

    Attributes:
        values: delta(K).
        resampled: delta(K) in each of R resamples of streams and loss positions, from K = 1 on; R may be 0.
    """

    values: np.ndarray
    resampled: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether the probe met no NaN or overflow."""
        return not bool(np.isnan(self.values).any())

    def at(self, K: int) -> float:
        """delta(K) of one truncation length; of the longest estimated if K exceeds it."""
        return at_length(self.values, K)

    def truncation(self, delta: float, confidence: float | None = None) -> int | None:
        """K(delta), the smallest K whose bias is at most delta, or None if there is none.

        Arguments:
            confidence: share of the resamples in which the bias must be at most delta; by default the estimate itself
                must be.
        """
        if confidence is None:
            return truncation_length(self.values, delta)
        require(len(self.resampled) > 0, "confidence", confidence, "needs a probe with resamples")
        return self._confident(delta, confidence)

    def _confident(self, delta: float, confidence: float) -> int | None:
        return truncation_length(-np.mean(self.resampled <= delta, axis=0), -confidence)

    def interval(self, delta: float, level: float) -> tuple[float, float]:
        """Bootstrap percentile interval that holds K(delta) in a share `level` of the resamples.

        An end is infinite if no K has so small a bias there; both are NaN without resamples. A `ConfigError` unless the
        level lies between 0 and 1.
        """
        require(0 < level < 1, "level", level, "must lie between 0 and 1")
        if not len(self.resampled) or not self.finite:
            return np.nan, np.nan
        outside = (1 - level) / 2
        low, high = np.quantile(self._lengths(delta), [outside, 1 - outside], method="inverted_cdf")
        return float(low), float(high)

    def _lengths(self, delta: float) -> np.ndarray:
        """K(delta) of each resample, (R,); infinite if there is none."""
        allowed = self.resampled <= delta
        return np.where(allowed.any(axis=1), allowed.argmax(axis=1) + 1.0, np.inf)


@dataclass(frozen=True)
class Bound(RelativeBias):
    """The bound of Aicher, Foti & Fox on the relative bias, from the norms of gradients at each lag.

    It falls as K grows, from K = tau + 1 on by the same factor beta a step. With `kept_norm` `sum` it is an estimate
    and no bound, see docs/definitions.md.

    Attributes:
        phi: averaged gradient norm per lag, (W,); row 0 is lag 1.
        log_beta: log of the decay per lag beyond tau.
        error: E(K) for K = 1, 2, ..., at least W + 1 of them.
        resampled_log_beta: of each resample, (R,).
    """

    phi: np.ndarray
    log_beta: float
    error: np.ndarray
    resampled_log_beta: np.ndarray

    def _lengths(self, delta: float) -> np.ndarray:
        lengths = super()._lengths(delta)
        last = self.resampled[:, -1]
        beyond = np.isinf(lengths) & (self.resampled_log_beta < 0) & np.isfinite(last)
        further = np.ceil(np.log(delta / last[beyond]) / self.resampled_log_beta[beyond])
        lengths[beyond] = self.resampled.shape[1] + further
        return np.where(lengths <= len(self.values), lengths, np.inf)

    def _confident(self, delta: float, confidence: float) -> int | None:
        lengths = np.sort(self._lengths(delta))
        length = lengths[math.ceil(confidence * len(lengths)) - 1]
        return int(length) if np.isfinite(length) else None


@dataclass(frozen=True)
class BiasEstimate:
    """The relative bias of truncation that one probe found.

    Attributes:
        bound: on the relative bias of K steps, for every K up to the stream's length.
        measured: of the scheme, against the gradient of the whole probe window, for K = 1..W; None if not measured.
        measured_of_steps: the same with every loss backpropagated through exactly K steps; without resamples.
        noise: of the gradient under the scheme; None if it was not measured.
        cosine: of the angle between the scheme's mean gradient and the whole window's, for K = 1..W; None likewise.
    """

    bound: Bound
    measured: RelativeBias | None = None
    measured_of_steps: RelativeBias | None = None
    noise: GradientNoise | None = None
    cosine: np.ndarray | None = None


def bias_bound(
    norms: np.ndarray,
    kept_of_mean: np.ndarray,
    settings: ProbeSettings,
    *,
    longest: int | None = None,
    weights: np.ndarray | None = None,
    resampled_kept_of_mean: np.ndarray | None = None,
    shares: np.ndarray | None = None,
    lags: int | None = None,
) -> Bound:
    """From a probe's norms, (P, W, B) or (W, B), to delta(K) for K up to `longest`.

    For g_j, `kept_norm=of_mean` takes `kept_of_mean`, (W,), `sum` the cumulative sum of mean phi. With R resamples:
    `weights` (R, P, B) and `resampled_kept_of_mean` (R, W). Where not all losses count: `shares` (P, B), and the
    `lags` that those that do have, which are more than tau.
    """
    phi = mean_norms(norms, shares, settings.average)
    longest = max(longest or 0, len(phi) + 1)
    kept = kept_of_mean if settings.kept_norm == "of_mean" else np.nancumsum(mean_norms(norms, shares))
    resampled, log_betas = np.empty((0, len(phi) + 1)), np.empty(0)
    if lags == 0 or not (np.isfinite(phi[:lags]).all() and np.isfinite(kept[:lags]).all()):
        unknown = np.full(longest, np.nan)
        return Bound(unknown, resampled, phi, np.nan, unknown, log_betas)
    log_beta = log_decay_rate(phi, settings)
    error = absolute_error(phi, settings.tau, log_beta, longest)
    if weights is not None and resampled_kept_of_mean is not None and len(weights):
        phis = average_norms(norms, settings.average, weights)
        log_betas = np.array([log_decay_rate(of_resample, settings) for of_resample in phis])
        if settings.kept_norm == "sum":
            resampled_kept_of_mean = np.cumsum(average_norms(norms, "mean", weights), axis=1)
        resampled = relative_bias(absolute_error(phis, settings.tau, log_betas, len(phi) + 1), resampled_kept_of_mean)
    return Bound(relative_bias(error, kept), resampled, phi, log_beta, error, log_betas)
