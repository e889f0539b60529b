"""What an evaluation stores: metrics of the splits, predictions, and metrics and profiles over lags of the probes."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.datasets import Predicting, Task
from atbptt.models import Nested, at, axes, evaluating, halves, joined, starting_state, steps_at_once
from atbptt.probes import Measurement, RelativeBias, at_length
from atbptt.runs import schema
from atbptt.windows import Stream

CHUNK = 500  # steps per call of the model: bounds memory, and does not change the result
STREAMS, STEPS = 4, 200  # of the test split, whose predictions are stored: a few kB


def evaluate(
    model: nn.Module, task: Task, split: Stream, pause: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """A split's metrics over all its losses that count, from a zero state at its start, without dropout.

    `pause` is called every `CHUNK` steps or sooner; an error that it raises ends the evaluation.
    """
    sums: dict[str, Tensor] = {}
    with evaluating(model), torch.no_grad():
        for outputs, targets, counted in outputs_of(model, task, split, split.length, pause):
            for name, values in task.measures(outputs, targets).items():
                values = values.double()
                total = (values if counted is None else values * counted).sum()
                sums[name] = sums[name] + total if name in sums else total
    count = split.losses(0, split.length) * split.batch
    return task.metrics({name: float(total) / count for name, total in sums.items()})


def outputs_of(
    model: nn.Module, task: Task, split: Stream, stop: int, pause: Callable[[], object] = lambda: None
) -> Iterator[tuple[Nested, Nested, Tensor | None]]:
    """Of the first `stop` steps, part by part, outputs, targets (T', B, ...), and which of them count.

    To be read within `evaluating`.
    """
    parts = halves(model)
    decoded = steps_at_once(split.batch, task.output_size)
    steps = min(CHUNK, decoded) if parts.whole else CHUNK  # a model without halves decodes every step that it runs
    state = first = starting_state(model, split.read(0, 1)[0])
    for start in range(0, stop, steps):
        pause()
        end = min(start + steps, stop)
        inputs, targets = split.read(start, end)
        features, state = split.recur(parts, start, inputs, state, first)
        for begin in range(start, end, decoded):
            stop_at = min(begin + decoded, end)
            some = slice(begin - start, stop_at - start)
            yield parts.decode(at(features, some)), at(targets, some), split.counting_in(begin, stop_at)


def predict(model: nn.Module, task: Task) -> dict[str, np.ndarray]:
    """Columns of predictions.parquet: a row per quantity, stream and step; none if the task makes no predictions."""
    if not isinstance(task, Predicting):
        return {}
    rows: list[tuple[Any, ...]] = []
    with evaluating(model), torch.no_grad():
        parts = outputs_of(model, task, task.test, min(STEPS, task.test.length))
        kept = ([at(values, (slice(None), slice(STREAMS))) for values in part[:2]] for part in parts)
        outputs, targets = (joined(values) for values in zip(*kept, strict=True))
        length, streams = axes(targets)
        counts = np.ones((streams, length), dtype=bool)
        if task.test.counted is not None:
            counts = task.test.counted[:length, :STREAMS].cpu().numpy().T > 0
        for quantity, pair in task.predictions(outputs, targets).items():
            predicted, target = (values.double().cpu().numpy().T for values in pair)
            columns = *np.indices(target.shape), np.full(target.shape, quantity), target, predicted
            rows.append(tuple(column[counts] for column in columns))
    return _joined(("stream", "position", "quantity", "target", "predicted"), rows)


def bias_metrics(measurements: Sequence[Measurement], K: int) -> list[tuple[str, int, float]]:
    """(metric, replicate, value) of an evaluation's probes, at the present `K`; the replicate is the probe's number.

    See docs/runs.md for the metrics. `K_<delta>` is infinite if no K up to the stream's length has so small a bias.
    """
    values = []
    for replicate, measurement in enumerate(measurements):
        estimate = measurement.estimate
        found = list(_metrics_of(estimate.bound, K, ""))
        if estimate.measured is not None:
            found += _metrics_of(estimate.measured, K, "_measured")
        if estimate.measured_of_steps is not None:
            found += _metrics_of(estimate.measured_of_steps, K, "_measured_of_steps")
        found.append(("log_beta", estimate.bound.log_beta))
        at_K = {}
        if (measured := measurement.gradients.parameters) is not None:
            at_K = {"gradient_cosine": measured.cosine, "gradient_cosine_of_steps": measured.cosine_of_steps}
        if estimate.noise is not None:
            at_K["signal_to_noise"] = estimate.noise.signal_to_noise
        found += [(name, at_length(of_all, K)) for name, of_all in at_K.items()]
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
    """Columns of gradients.parquet: a row per probe, component and lag."""
    rows: list[tuple[np.ndarray, ...]] = []
    for replicate, measurement in enumerate(measurements):
        gradients, found = measurement.gradients, measurement.gradients.parameters
        lags = np.arange(1, len(gradients.kept_of_mean) + 1)
        unknown = np.full(len(lags), np.nan)
        of_all = {"relative_bias": measurement.estimate.bound.values[: len(lags)], "reach": gradients.reach}
        if found is not None:
            of_all |= {"measured_bias": found.bias, "measured_bias_of_steps": found.bias_of_steps}
            of_all |= {"cosine": found.cosine, "cosine_of_steps": found.cosine_of_steps}
        if (noise := measurement.noise) is not None:
            of_all |= {"square": noise.square, "spread": noise.spread, "signal": noise.signal}
            of_all["signal_to_noise"] = noise.signal_to_noise
        components = zip(
            ("all", *gradients.components),
            (gradients.norms, *gradients.component_norms),
            (gradients.kept_of_mean, *gradients.component_kept_of_mean),
            strict=True,
        )
        for name, norms, kept in components:
            known = of_all if name == "all" else {}
            readings = (known.get(reading, unknown) for reading in schema.READINGS)
            phi = gradients.phi(norms, average)
            rows.append((np.full_like(lags, replicate), np.full(len(lags), name), lags, phi, kept, *readings))
    return _joined(("replicate", "component", "lag", "phi", "kept_of_mean", *schema.READINGS), rows)


def position_profiles(
    measurements: Sequence[Measurement], positions: Sequence[int], average: str
) -> dict[str, np.ndarray]:
    """Columns of positions.parquet: a row per probe, loss position and lag that the window holds before it."""
    rows: list[tuple[np.ndarray, ...]] = []
    for replicate, measurement in enumerate(measurements):
        gradients = measurement.gradients
        for number, (position, norms) in enumerate(zip(positions, gradients.norms, strict=True)):
            if gradients.shares is not None and not (gradients.shares[number] > 0).any():
                continue
            lags = 1 + np.flatnonzero(~np.isnan(norms[:, 0]))
            phi = gradients.phi(gradients.norms, average, number)[lags - 1]
            rows.append((np.full_like(lags, replicate), np.full_like(lags, position), lags, phi))
    return _joined(("replicate", "position", "lag", "phi"), rows)


def _joined(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    return dict(zip(names, map(np.concatenate, zip(*rows, strict=True)), strict=True)) if rows else {}
