"""What a model says of the beginning of the test split, step by step: what predictions.parquet holds."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.datasets import Predicting, Task
from atbptt.errors import require
from atbptt.models import evaluating
from atbptt.training.evaluation import outputs_of

STREAMS = 4  # the first ones: more than a figure shows
STEPS = 200  # from its start: several of what a task repeats, in a file of a few kB


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
