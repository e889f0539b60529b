"""What a run stores of its probes: metrics, and profiles over lags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from atbptt.probes import Measurement, RelativeBias, average_norms
from atbptt.runs import schema


def bias_metrics(measurements: Sequence[Measurement], K: int) -> list[tuple[str, int, float]]:
    """What a run logs of its probes: (metric, replicate, value), the replicate being the probe's number.

    `K_<delta>`, the K(delta) of each logged delta by the bound, infinite where no K up to the stream's length has so
    small a bias; `log_relative_bias`, log delta(K) of the present `K`; both again by the measured bias, with
    `_measured` at the end. To each K(delta) `_low` and `_high` add its interval. `log_beta` is the log of the decay a
    lag that the bound extrapolates by, -inf where too few lags carry a signal to fit it. `gradient_cosine` is of the
    angle between the gradient truncated at the present K and the whole window's. NaN where the probe was not finite.
    """
    values = []
    for replicate, measurement in enumerate(measurements):
        estimate = measurement.estimate
        found = list(_metrics_of(estimate.bound, K, ""))
        if estimate.measured is not None:
            found += _metrics_of(estimate.measured, K, "_measured")
        found.append(("log_beta", estimate.bound.log_beta))
        if (measured := measurement.gradients.parameters) is not None:
            found.append(("gradient_cosine", float(measured.cosine[min(K, len(measured.cosine)) - 1])))
        values += [(name, replicate, value) for name, value in found]
    return values


def _metrics_of(bias: RelativeBias, K: int, kind: str) -> Iterator[tuple[str, float]]:
    for delta in schema.LOGGED_DELTAS:
        name = f"{schema.metric_of_delta(delta)}{kind}"
        length = bias.truncation(delta)
        none = math.inf if bias.finite else math.nan
        yield name, none if length is None else length
        if len(bias.resampled):
            low, high = bias.interval(delta, schema.INTERVAL)
            yield f"{name}_low", low
            yield f"{name}_high", high
    value = bias.at(K)
    yield f"log_relative_bias{kind}", math.log(value) if value else -math.inf


def lag_profiles(measurements: Sequence[Measurement], average: str) -> dict[str, np.ndarray]:
    """Columns of gradients.parquet (see `schema.GRADIENTS_SCHEMA`), but for those of the run.

    A row per probe, component (`all` is the whole state) and lag; `average` as in `average_norms`. The relative
    bias at K = lag stands in the rows of `all`, NaN in the others.
    """
    rows: list[tuple[np.ndarray, ...]] = []
    for replicate, measurement in enumerate(measurements):
        gradients = measurement.gradients
        lags = np.arange(1, len(gradients.kept_of_mean) + 1)
        unknown = np.full(len(lags), np.nan)
        found = gradients.parameters
        of_measured = (unknown, unknown) if found is None else (found.bias, found.cosine)
        of_all = (measurement.estimate.bound.values[: len(lags)], *of_measured)
        profiles = [("all", gradients.norms, gradients.kept_of_mean, of_all)]
        profiles += [
            (name, norms, kept, (unknown,) * 3)
            for name, norms, kept in zip(
                gradients.components, gradients.component_norms, gradients.component_kept_of_mean, strict=True
            )
        ]
        for name, norms, kept, biases in profiles:
            phi = average_norms(norms, average)
            rows.append((np.full_like(lags, replicate), np.full(len(lags), name), lags, phi, kept, *biases))
    names = ("replicate", "component", "lag", "phi", "kept_of_mean", "relative_bias", "measured_bias", "cosine")
    return dict(zip(names, map(np.concatenate, zip(*rows, strict=True)), strict=True))


def position_profiles(
    measurements: Sequence[Measurement], positions: Sequence[int], average: str
) -> dict[str, np.ndarray]:
    """Columns of positions.parquet (see `schema.POSITIONS_SCHEMA`), but for those of the run.

    A row per probe, loss position and lag that the window holds for it.

    Arguments:
        positions: of the P losses in the probe window, see `ProbeSettings.loss_positions`.
        average: over streams, as in `average_norms`.
    """
    rows: list[tuple[np.ndarray, ...]] = []
    for replicate, measurement in enumerate(measurements):
        for position, norms in zip(positions, measurement.gradients.norms, strict=True):
            lags = 1 + np.flatnonzero(~np.isnan(norms[:, 0]))
            phi = average_norms(norms[lags - 1], average)
            rows.append((np.full_like(lags, replicate), np.full_like(lags, position), lags, phi))
    return dict(zip(("replicate", "position", "lag", "phi"), map(np.concatenate, zip(*rows, strict=True)), strict=True))
