from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from atbptt.datasets import SymbolTask
from atbptt.datasets.task import generated, symbol_stream
from atbptt.errors import ConfigError
from atbptt.windows.streams import Stream


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64"])
def test_symbols_are_int64_whatever_they_came_as(kind: str) -> None:
    stream = symbol_stream(np.array([[1], [2]], dtype=kind), np.array([[3], [4]], dtype=kind))
    assert stream.inputs.dtype == stream.targets.dtype == torch.int64
    assert [stream.inputs.tolist(), stream.targets.tolist()] == [[[1], [2]], [[3], [4]]]


def test_cross_entropy_is_in_nats_per_step_and_stream() -> None:
    """Logits log(1), log(3): probabilities 1/4 and 3/4."""
    outputs = torch.tensor([0.0, math.log(3)]).expand(2, 3, 2)
    targets = torch.tensor([[0, 1, 1], [1, 0, 1]])
    expected = [[math.log(4) if y == 0 else math.log(4 / 3) for y in row] for row in targets.tolist()]
    torch.testing.assert_close(SymbolTask().loss(outputs, targets), torch.tensor(expected))
    torch.testing.assert_close(SymbolTask().measures(outputs, targets)["loss"], torch.tensor(expected))


def test_each_loss_belongs_to_its_own_step_and_stream() -> None:
    outputs = torch.zeros(3, 2, 4)
    outputs[2, 1, 3] = 100
    loss = SymbolTask().loss(outputs, torch.full((3, 2), 3))
    assert loss[2, 1].item() == pytest.approx(0, abs=1e-6)
    assert loss.flatten()[:-1].tolist() == pytest.approx([math.log(4)] * 5)


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    task = SymbolTask()
    assert task.metrics({"loss": math.log(6)}) == {"loss": math.log(6), "ppl": pytest.approx(6)}
    assert tuple(sorted(task.metrics({"loss": 1.0}))) == tuple(sorted(task.metric_names))
    assert task.metric_names[0] == "ppl"


@pytest.mark.parametrize("loss", [800.0, math.inf])
def test_a_huge_loss_has_an_infinite_perplexity(loss: float) -> None:
    assert SymbolTask().metrics({"loss": loss})["ppl"] == math.inf


def test_a_loss_that_is_no_number_is_not_hidden() -> None:
    assert math.isnan(SymbolTask().metrics({"loss": math.nan})["loss"])
    assert not math.isfinite(SymbolTask().metrics({"loss": math.nan})["ppl"])


def counted(steps: int, generator: np.random.Generator) -> Stream:
    drawn = generator.integers(9, size=(steps, 1))
    return symbol_stream(drawn, drawn)


def test_each_split_has_its_length_and_its_own_draws() -> None:
    streams = generated("counting", (50, 40, 30), 1, 0, counted)
    assert [stream.length for stream in streams] == [50, 40, 30]
    assert not torch.equal(streams[0].inputs[:30], streams[2].inputs)
    other = generated("counting", (50, 40, 30), 1, 1, counted)
    assert not torch.equal(streams[0].inputs, other[0].inputs)


@pytest.mark.parametrize("split", [0, 1, 2])
def test_a_split_has_at_least_two_steps(split: int) -> None:
    name = ("train", "valid", "test")[split]
    steps = [2, 2, 2]
    steps[split] = 1
    with pytest.raises(ConfigError, match=re.escape(f"{name}_steps (=1) must be at least 2")):
        generated("counting", (steps[0], steps[1], steps[2]), 1, 0, counted)


def test_there_is_at_least_one_stream() -> None:
    with pytest.raises(ConfigError, match=r"^batch_size \(=0\) must be at least 1$"):
        generated("counting", (2, 2, 2), 0, 0, counted)
