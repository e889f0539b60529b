import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from atbptt.datasets import SPLITS, Copy, GrowingCopy, Linear, Repeat, SymbolTask
from atbptt.datasets.task import symbol_stream
from atbptt.errors import ConfigError

SIZES = {"train_steps": 60, "valid_steps": 40, "test_steps": 30, "batch_size": 16, "seed": 0}
GENERATED: dict[Any, dict[str, Any]] = {
    Copy: {**SIZES, "min_length": 2, "max_length": 5, "symbols": 6},
    GrowingCopy: {**SIZES, "min_length": 2, "first_length": 2, "max_length": 5, "growth": 3, "symbols": 6},
    Repeat: {**SIZES, "period": 8, "symbols": 4, "shift": 0},
    Linear: {**SIZES, "state_size": 4, "features": 3, "radius": 0.9, "noise": 0.5},
}


@pytest.mark.parametrize("kind", ["int8", "uint16", ">i4", "int64"])
def test_symbols_are_int64_whatever_they_came_as(kind: str) -> None:
    stream = symbol_stream(np.array([[1], [2]], dtype=kind), np.array([[3], [4]], dtype=kind))
    assert stream.inputs.dtype == stream.targets.dtype == torch.int64
    assert [stream.inputs.tolist(), stream.targets.tolist()] == [[[1], [2]], [[3], [4]]]


def test_cross_entropy_is_in_nats_per_step_and_stream() -> None:
    """Logits log(1), log(3): probabilities 1/4 and 3/4."""
    outputs = torch.tensor([0.0, math.log(3)]).expand(2, 3, 2)
    targets = torch.tensor([[0, 1, 1], [1, 0, 1]])
    expected = torch.tensor([[math.log(4) if y == 0 else math.log(4 / 3) for y in row] for row in targets.tolist()])
    torch.testing.assert_close(SymbolTask().loss(outputs, targets), expected)
    torch.testing.assert_close(SymbolTask().measures(outputs, targets)["loss"], expected)


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    task = SymbolTask()
    assert task.metrics({"loss": math.log(6)}) == {"loss": math.log(6), "ppl": pytest.approx(6)}
    assert task.metric_names == ("ppl", "loss")
    assert [task.metrics({"loss": loss})["ppl"] for loss in (800.0, math.inf)] == [math.inf] * 2
    assert math.isnan(task.metrics({"loss": math.nan})["loss"])


@pytest.mark.parametrize("kind", GENERATED)
def test_generated_streams_have_their_sizes_and_predict_the_next_step(kind: Any) -> None:
    task = kind(**GENERATED[kind])
    tail = (3,) if kind is Linear else ()
    for split, steps in zip(SPLITS, (60, 40, 30), strict=True):
        stream = getattr(task, split)
        assert stream.inputs.shape == stream.targets.shape == (steps, 16, *tail)
        assert stream.inputs.dtype == (torch.float32 if kind is Linear else torch.int64)
        if not issubclass(kind, Copy):
            assert torch.equal(stream.targets[:-1], stream.inputs[1:])  # the next one
    size = 3 if kind is Linear else GENERATED[kind]["symbols"]
    assert task.input_size == task.output_size == size


@pytest.mark.parametrize("kind", GENERATED)
def test_the_seed_decides_the_data_and_splits_and_streams_differ(kind: Any) -> None:
    one, same, other = (kind(**GENERATED[kind] | {"seed": seed, "train_steps": 61}) for seed in (3, 3, 4))
    assert torch.equal(kind(**GENERATED[kind] | {"seed": 3}).valid.inputs, one.valid.inputs)  # of whatever length train
    for split in SPLITS:
        a, b, c = (getattr(task, split) for task in (one, same, other))
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert not torch.equal(a.inputs, c.inputs)
    beginnings = [getattr(one, split).inputs[:30, stream] for split in SPLITS for stream in range(16)]
    assert len({str(beginning.tolist()) for beginning in beginnings}) == 48


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    *((kind, {"batch_size": 0}, "batch_size (=0) must be at least 1") for kind in GENERATED),
    (Copy, {"min_length": 0}, "min_length (=0) must be at least 1"),
    (Copy, {"max_length": 1}, "max_length (=1) must be at least min_length (=2)"),
    (Copy, {"symbols": 2}, "symbols (=2) must be at least 3: the blank, the mark and one to copy"),
    (Copy, {"test_steps": 9}, "test_steps (=9) must be at least 10"),
    (GrowingCopy, {"growth": 0}, "growth (=0) must be at least 1 (passes)"),
    (GrowingCopy, {"first_length": 6}, "first_length (=6) must be within min_length..max_length (=2..5)"),
    (Repeat, {"period": 0}, "period (=0) must be at least 1"),
    (Repeat, {"period": 1, "test_steps": 1}, "test_steps (=1) must be at least 2"),
    (Repeat, {"symbols": 1}, "symbols (=1) must be at least 2"),
    (Repeat, {"shift": 4}, "shift (=4) must lie in 0..3, below symbols"),
    (Repeat, {"shift": -1}, "shift (=-1) must lie in 0..3, below symbols"),
    (Repeat, {"valid_steps": 7}, "valid_steps (=7) must be at least 8"),
    (Linear, {"state_size": 0}, "state_size (=0) must be at least 1"),
    (Linear, {"features": 0}, "features (=0) must be at least 1"),
    (Linear, {"radius": 1.0}, "radius (=1.0) must be at least 0 and below 1, or the system explodes"),
    (Linear, {"radius": -0.1}, "radius (=-0.1) must be at least 0 and below 1, or the system explodes"),
    (Linear, {"radius": math.nan}, "radius (=nan) must be at least 0 and below 1, or the system explodes"),
    (Linear, {"noise": -1.0}, "noise (=-1.0) must be at least 0"),
    (Linear, {"train_steps": 1}, "train_steps (=1) must be at least 2"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), REFUSED)
def test_bad_arguments_are_refused_by_name_value_and_rule(kind: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        kind(**GENERATED[kind] | changes)
