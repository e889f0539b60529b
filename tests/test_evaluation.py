from __future__ import annotations

import math

import pytest
import torch

from atbptt.datasets import Stream, SymbolTask
from atbptt.evaluation import CHUNK, evaluate
from atbptt.models import RecurrentNetwork


@pytest.mark.parametrize("steps", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_every_step_counts_once_whatever_the_length(steps: int) -> None:
    """Against one unbroken pass."""
    torch.manual_seed(0)
    model = RecurrentNetwork(4, 4, hidden=5, layers=2, dropout=0.5)
    split = Stream(torch.randint(4, (steps, 3)), torch.randint(4, (steps, 3)))
    with torch.no_grad():
        outputs, _ = model.eval()(split.inputs, model.initial_state(3))
        expected = torch.nn.functional.cross_entropy(outputs.double().flatten(0, 1), split.targets.flatten()).item()
    model.train()
    task = SymbolTask()
    task.output_size = 4
    found = evaluate(model, task, split)
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["ppl"] == pytest.approx(math.exp(expected), rel=1e-6)
    assert model.training
