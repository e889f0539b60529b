"""Metrics of a split: every step of it, state carried from its first step to its last."""

from __future__ import annotations

import torch
from torch import nn

from atbptt.datasets.task import Task
from atbptt.modes import evaluating
from atbptt.streams import Stream

# What a forward pass may cover; these bound memory, and do not change the result.
CHUNK = 500  # steps
OUTPUTS = 2**23  # numbers that the model puts out: 32 MB of logits


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, split: Stream) -> dict[str, float]:
    """The split's metrics, from a zero state at its start, dropout off; the model's mode is restored.

    Sums are in float64 and divided by the number of steps that were summed, whatever the split's length.
    """
    sums: dict[str, torch.Tensor] = {}
    steps = max(1, min(CHUNK, OUTPUTS // (split.batch * task.output_size)))
    state = model.initial_state(split.batch)  # type: ignore[operator]
    with evaluating(model):
        for start in range(0, split.length, steps):
            inputs, targets = split.read(start, start + steps)
            outputs, state = model(inputs, state)
            for name, values in task.measures(outputs, targets).items():
                total = values.double().sum()
                sums[name] = sums[name] + total if name in sums else total
    count = split.length * split.batch
    return task.metrics({name: float(total) / count for name, total in sums.items()})
