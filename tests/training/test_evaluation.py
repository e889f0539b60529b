from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from atbptt.datasets import Stream, SymbolTask
from atbptt.models.networks import RecurrentNetwork
from atbptt.training.evaluation import CHUNK, evaluate


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


def test_no_forward_pass_puts_out_more_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbptt.models.losses.OUTPUTS", 50)
    model, task = RecurrentNetwork(4, 4, hidden=5), SymbolTask()
    task.output_size = 4
    sizes: list[int] = []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
    evaluate(model, task, Stream(torch.randint(4, (30, 3)), torch.randint(4, (30, 3))))
    assert sum(sizes) == 30 * 3 * 4
    assert max(sizes) == 48
    sizes.clear()
    evaluate(model, task, Stream(torch.randint(4, (5, 99)), torch.randint(4, (5, 99))))  # a step has more than that
    assert sizes == [99 * 4] * 5


def test_the_recurrent_half_runs_on_where_the_decoder_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a model without halves, whose outputs are what it runs over."""
    monkeypatch.setattr("atbptt.models.losses.OUTPUTS", 50)
    model, task = RecurrentNetwork(4, 4, hidden=5), SymbolTask()
    task.output_size = 4
    split = Stream(torch.randint(4, (CHUNK + 7, 3)), torch.randint(4, (CHUNK + 7, 3)))
    lengths: list[int] = []
    model.rnn.register_forward_hook(lambda _module, given, _output: lengths.append(len(given[0])))
    found = evaluate(model, task, split)
    assert lengths == [CHUNK, 7]
    lengths.clear()
    whole = Whole(model)
    assert evaluate(whole, task, split) == pytest.approx(found, rel=1e-6)
    assert set(lengths) == {4, 3}


class Whole(torch.nn.Module):
    """A model without halves."""

    def __init__(self, model: RecurrentNetwork) -> None:
        super().__init__()
        self.model = model
        self.initial_state = model.initial_state

    def forward(self, inputs: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        return self.model(inputs, state)
