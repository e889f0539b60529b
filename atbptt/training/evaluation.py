"""Metrics of a split: every step of it, state carried from its first step to its last."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from atbptt.datasets import Task
from atbptt.models import evaluating, halves, steps_at_once
from atbptt.windows import Stream

CHUNK = 500  # steps that a call runs over: bounds memory, and does not change the result


def evaluate(
    model: nn.Module, task: Task, split: Stream, pause: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """The split's metrics, from a zero state at its start, dropout off; the model's mode is restored.

    Sums are in float64 and divided by the number of steps that were summed, whatever the split's length.

    Arguments:
        model: see `atbptt.models.networks`.
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
    recur, decode = halves(model)
    decoded = steps_at_once(split.batch, task.output_size)
    steps = min(CHUNK, decoded) if recur is model else CHUNK  # a model without halves puts out what it runs over
    state = model.initial_state(split.batch)  # type: ignore[operator]
    for start in range(0, stop, steps):
        pause()
        inputs, targets = split.read(start, min(start + steps, stop))
        features, state = recur(inputs, state)
        for part, its_targets in zip(features.split(decoded), targets.split(decoded), strict=True):
            yield decode(part), its_targets
