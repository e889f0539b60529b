from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from atbptt.datasets import Repeat
from atbptt.errors import ConfigError

SIZES = {
    "period": 8,
    "symbols": 4,
    "shift": 0,
    "train_steps": 50,
    "valid_steps": 40,
    "test_steps": 30,
    "batch_size": 16,
    "seed": 0,
}
SPLITS = ("train", "valid", "test")


def repeats(**changes: Any) -> Repeat:
    return Repeat(**{**SIZES, **changes})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(2, 9), st.integers(2, 60), st.integers(0, 2**31), st.data())
def test_the_target_is_the_next_input_and_a_symbol_comes_back_shifted(
    period: int, symbols: int, steps: int, seed: int, data: st.DataObject
) -> None:
    shift = data.draw(st.integers(0, symbols - 1))
    task = repeats(period=period, symbols=symbols, shift=shift, train_steps=max(period, steps), seed=seed)
    for split in SPLITS:
        stream = getattr(task, split)
        assert torch.equal(stream.targets[:-1], stream.inputs[1:])
        sequence = torch.cat([stream.inputs, stream.targets[-1:]])  # (T + 1, B)
        assert torch.equal(sequence[period:], (sequence[:-period] + shift) % symbols)
        assert sequence.min() >= 0
        assert sequence.max() < symbols


def test_a_sequence_cannot_be_told_from_a_shorter_past() -> None:
    """Base symbols are independent: the symbol one step before says nothing about the next one."""
    sequence = repeats(batch_size=3000, train_steps=8).train
    joint = np.zeros((4, 4))
    np.add.at(joint, (sequence.inputs.flatten().numpy(), sequence.targets.flatten().numpy()), 1)
    np.testing.assert_allclose(joint / joint.sum(), 1 / 16, atol=0.01)


def test_each_stream_has_a_sequence_of_its_own() -> None:
    columns = {tuple(column) for column in repeats().train.inputs.T.tolist()}
    assert len(columns) == SIZES["batch_size"]


def test_the_seed_decides_the_data_and_splits_differ() -> None:
    one, same, other = repeats(seed=3), repeats(seed=3), repeats(seed=4)
    for split in SPLITS:
        a, b, c = (getattr(task, split).inputs for task in (one, same, other))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert not torch.equal(one.train.inputs[:30], one.test.inputs)
    assert not torch.equal(one.train.inputs[:40], one.valid.inputs)


def test_sizes_are_as_asked() -> None:
    task = repeats()
    assert [getattr(task, s).inputs.shape for s in SPLITS] == [(50, 16), (40, 16), (30, 16)]
    assert (task.input_size, task.output_size) == (4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"period": 0}, r"^period \(=0\) must be at least 1$"),
        ({"symbols": 1}, r"^symbols \(=1\) must be at least 2$"),
        ({"shift": 4}, r"^shift \(=4\) must lie in 0..3, below symbols$"),
        ({"shift": -1}, r"^shift \(=-1\) must lie in 0..3, below symbols$"),
        ({"valid_steps": 1}, r"^valid_steps \(=1\) must be at least 8$"),
        ({"batch_size": 0}, r"^batch_size \(=0\) must be at least 1$"),
    ],
)
def test_bad_arguments_are_refused_by_name_value_and_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        repeats(**changes)
