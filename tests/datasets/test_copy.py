from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from atbptt.datasets import Copy
from atbptt.errors import ConfigError

SIZES = {
    "min_length": 2,
    "max_length": 5,
    "symbols": 6,
    "train_steps": 60,
    "valid_steps": 40,
    "test_steps": 30,
    "batch_size": 16,
    "seed": 0,
}
SPLITS = ("train", "valid", "test")

lengths = st.tuples(st.integers(1, 12), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))


def copies(**changes: Any) -> Copy:
    return Copy(**{**SIZES, **changes})


def streams(task: Copy) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each stream of each split, (T,) inputs and targets."""
    return [
        (getattr(task, split).inputs[:, b].numpy(), getattr(task, split).targets[:, b].numpy())
        for split in SPLITS
        for b in range(getattr(task, split).batch)
    ]


def run_of_symbols(inputs: np.ndarray) -> int:
    """Steps until the first blank, or until the end."""
    blanks = np.flatnonzero(inputs == 0)
    return int(blanks[0]) if len(blanks) else len(inputs)


def decoded(inputs: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The targets that the inputs of one stream call for, and the m of every sequence, from the marks alone."""
    marks = np.flatnonzero(inputs == 1)
    expected = np.zeros_like(inputs)
    found = []
    for i, mark in enumerate(marks):
        if i + 1 < len(marks):
            distance = marks[i + 1] - mark
            assert distance % 2 == 0
            m = distance // 2
            assert run_of_symbols(inputs[mark:]) == m  # m symbols, then m blanks
        else:  # the stream ends before the next mark
            m = run_of_symbols(inputs[mark:])
            assert mark + 2 * m >= len(inputs)
        found.append(int(m))
        echo = expected[mark + m : mark + 2 * m]
        echo[:] = inputs[mark : mark + m][: len(echo)]
    return expected, found


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(3, 9), st.integers(2, 90), st.integers(1, 5), st.integers(0, 2**31))
def test_every_target_is_the_streams_own_input_m_steps_before(
    m_range: tuple[int, int], symbols: int, steps: int, batch: int, seed: int
) -> None:
    shortest, longest = m_range
    task = copies(
        min_length=shortest,
        max_length=longest,
        symbols=symbols,
        train_steps=2 * longest + steps - 2,
        valid_steps=2 * longest,
        test_steps=2 * longest + 1,
        batch_size=batch,
        seed=seed,
    )
    for inputs, targets in streams(task):
        expected, found = decoded(inputs)
        np.testing.assert_array_equal(targets, expected)
        assert all(shortest <= m <= longest for m in found[:-1])
        assert all(m <= longest for m in found)
        assert found or len(inputs) < shortest + longest  # shorter than the longest lead-in


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_with_fixed_m_targets_are_the_inputs_shifted_by_m(m: int, seed: int) -> None:
    for inputs, targets in streams(copies(min_length=m, max_length=m, seed=seed)):
        np.testing.assert_array_equal(targets[m:], inputs[: len(inputs) - m])
        assert (targets[:m] == 0).all()


def test_the_published_sizes_copy_too() -> None:
    for m_range in ((10, 10), (5, 10)):
        task = copies(min_length=m_range[0], max_length=m_range[1], train_steps=4000, batch_size=64)
        for inputs, targets in streams(task):
            np.testing.assert_array_equal(targets, decoded(inputs)[0])


def test_each_length_is_drawn_about_equally_often() -> None:
    task = copies(min_length=5, max_length=10, train_steps=4000)
    found = [m for inputs, _ in streams(task) for m in decoded(inputs)[1][:-1]]
    counts = np.bincount(found)[5:]
    assert len(counts) == 6
    assert counts.min() > 0.8 * counts.mean()


def test_streams_are_out_of_phase_at_every_phase() -> None:
    task = copies(min_length=4, max_length=4, batch_size=200)
    first = (task.train.inputs == 1).int().argmax(dim=0)
    assert sorted(set(first.tolist())) == list(range(8))


def test_the_lead_in_is_blank() -> None:
    for inputs, targets in streams(copies()):
        first = int(np.flatnonzero(inputs == 1)[0])
        assert first < SIZES["min_length"] + SIZES["max_length"]
        assert not inputs[:first].any()
        assert not targets[:first].any()


def test_all_symbols_but_no_other_occur_and_the_mark_only_at_a_start() -> None:
    task = copies(min_length=5, max_length=5)
    for split in SPLITS:
        inputs = getattr(task, split).inputs
        assert set(inputs.flatten().tolist()) == set(range(6))
        assert (inputs[1:][inputs[1:] == 1].numel()) > 0
        before_a_mark = inputs[:-1][inputs[1:] == 1]
        assert (before_a_mark == 0).all()
    assert (task.input_size, task.output_size) == (6, 6)


def test_sizes_are_as_asked() -> None:
    task = copies()
    assert [getattr(task, s).inputs.shape for s in SPLITS] == [(60, 16), (40, 16), (30, 16)]
    assert [getattr(task, s).targets.shape for s in SPLITS] == [(60, 16), (40, 16), (30, 16)]


def test_the_seed_decides_the_data() -> None:
    one, same, other = copies(seed=3), copies(seed=3), copies(seed=4)
    for split in SPLITS:
        a, b, c = (getattr(task, split) for task in (one, same, other))
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert not torch.equal(a.inputs, c.inputs)


def test_splits_and_streams_differ() -> None:
    task = copies(valid_steps=60, test_steps=60)
    assert not torch.equal(task.train.inputs, task.valid.inputs)
    assert not torch.equal(task.train.inputs, task.test.inputs)
    assert not torch.equal(task.valid.inputs, task.test.inputs)
    assert len({tuple(column) for column in task.train.inputs.T.tolist()}) == 16


def test_a_split_does_not_depend_on_the_length_of_another() -> None:
    assert torch.equal(copies(train_steps=61).valid.inputs, copies(train_steps=60).valid.inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_length": 0}, r"^min_length \(=0\) must be at least 1$"),
        ({"max_length": 1}, r"^max_length \(=1\) must be at least min_length \(=2\)$"),
        ({"symbols": 2}, r"^symbols \(=2\) must be at least 3: the blank, the mark and one to copy$"),
        ({"test_steps": 1}, r"^test_steps \(=1\) must be at least 10$"),
        ({"batch_size": 0}, r"^batch_size \(=0\) must be at least 1$"),
    ],
)
def test_bad_arguments_are_refused_by_name_value_and_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        copies(**changes)
