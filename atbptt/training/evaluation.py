"""What a model makes of a split: its metrics, and what it says of the beginning of the test split.

Every step is read, the state carried from the first to the last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.datasets import Predicting, Task
from atbptt.errors import require
from atbptt.models import evaluating, halves, steps_at_once
from atbptt.windows import Stream

CHUNK = 500  # steps that a call runs over: bounds memory, and does not change the result
# What is stored of predictions: of the first streams, more than a figure shows, the first steps, several of what a task
# repeats, in a file of a few kB.
STREAMS = 4
STEPS = 200


def evaluate(
    model: nn.Module, task: Task, split: Stream, pause: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """The split's metrics, from a zero state at its start, dropout off; the model's mode is restored.

    Sums are in float64 and divided by the number of steps that were summed, whatever the split's length.

    Arguments:
        model: see `atbptt.models.Recurrent`.
        task: the split's, for its loss and metrics.
        split: (T, B) inputs and targets.
        pause: called every `CHUNK` steps or sooner; what it raises ends the evaluation.
    """
    sums: dict[str, Tensor] = {}
    with evaluating(model), torch.no_grad():
        for outputs, targets in outputs_of(model, task, split, split.length, pause):
            for name, values in task.measures(outputs, targets).items():
                total = values.double().sum()
                sums[name] = sums[name] + total if name in sums else total
    count = split.length * split.batch
    return task.metrics({name: float(total) / count for name, total in sums.items()})


def outputs_of(
    model: nn.Module, task: Task, split: Stream, stop: int, pause: Callable[[], object] = lambda: None
) -> Iterator[tuple[Tensor, Tensor]]:
    """What a model puts out for a split, from a zero state at its start: outputs (T', B, ...) and targets (T', B, ...).

    Part after part, to be read within `evaluating` and without gradients.

    Arguments:
        model, task, split, pause: as in `evaluate`.
        stop: how many steps, at most T.
    """
    parts = halves(model)
    decoded = steps_at_once(split.batch, task.output_size)
    steps = min(CHUNK, decoded) if parts.whole else CHUNK  # a model without halves puts out what it runs over
    state = model.initial_state(split.batch)  # type: ignore[operator]
    for start in range(0, stop, steps):
        pause()
        inputs, targets = split.read(start, min(start + steps, stop))
        features, state = parts.recur(inputs, state)
        for part, its_targets in zip(features.split(decoded), targets.split(decoded), strict=True):
            yield parts.decode(part), its_targets


def predict(model: nn.Module, task: Task) -> dict[str, np.ndarray]:
    """Columns of predictions.parquet (see `schema.PREDICTIONS_SCHEMA`), but for those of the run.

    The model reads the beginning of all streams as `evaluate` does, dropout off, from a zero state; of the first
    `STREAMS` streams a row per quantity of `Predicting.predictions`, stream and step is made.

    Returns:
        Nothing if the task makes no predictions.
    """
    if not isinstance(task, Predicting):
        return {}
    found: dict[str, list[tuple[np.ndarray, ...]]] = defaultdict(list)  # pairs (T', B), part after part
    with evaluating(model), torch.no_grad():
        for outputs, targets in outputs_of(model, task, task.test, min(STEPS, task.test.length)):
            for quantity, pair in task.predictions(outputs[:, :STREAMS], targets[:, :STREAMS]).items():
                found[quantity].append(tuple(part.double().cpu().numpy() for part in pair))
    rows: list[tuple[np.ndarray, ...]] = []
    for quantity, parts in found.items():
        predicted, target = (np.transpose(np.concatenate(part)) for part in zip(*parts, strict=True))  # (B, T)
        stream, position = np.indices(target.shape)
        columns = stream, position, np.full(target.shape, quantity), target, predicted
        rows.append(tuple(column.ravel() for column in columns))
    if not rows:
        return {}
    names = ("stream", "position", "quantity", "target", "predicted")
    return dict(zip(names, map(np.concatenate, zip(*rows, strict=True)), strict=True))


def check_predictions(task: Task, outputs: Tensor, targets: Tensor) -> None:
    """Raise a `ConfigError` unless a task's predictions, if it makes any, are pairs of tensors (T, B)."""
    if not isinstance(task, Predicting):
        return
    expected = tuple(targets.shape[:2])
    rule = f"must be two tensors of the shape (T, B) of the targets, {expected}"
    for quantity, pair in task.predictions(outputs, targets).items():
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in pair]
        require(shapes == [expected, expected], f"predictions.{quantity}", shapes, rule)
