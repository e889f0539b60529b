from typing import Any

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from atbptt.datasets import SPLITS, Copy, GrowingCopy
from atbptt.windows import Stream
from tests.datasets.test_task import GENERATED


def copies(**changes: Any) -> Copy:
    return Copy(**GENERATED[Copy] | changes)


def columns(stream: Stream) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each stream, (T,) inputs and targets."""
    return [(stream.inputs[:, b].numpy(), stream.targets[:, b].numpy()) for b in range(stream.batch)]


def streams(task: Copy) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each stream of each split."""
    return [column for split in SPLITS for column in columns(getattr(task, split))]


def decoded(inputs: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The targets that the inputs of one stream call for, and the m of every sequence, from the marks alone."""
    marks = np.flatnonzero(inputs == 1)
    expected = np.zeros_like(inputs)
    found = []
    for i, mark in enumerate(marks):
        m = int(np.argmin([*inputs[mark:], 0]))  # steps until the first blank, or until the end
        if i + 1 < len(marks):
            assert marks[i + 1] - mark == 2 * m  # m symbols, then m blanks
        else:  # the stream ends before the next mark
            assert mark + 2 * m >= len(inputs)
        found.append(m)
        echo = expected[mark + m : mark + 2 * m]
        echo[:] = inputs[mark : mark + m][: len(echo)]
    return expected, found


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(0, 8), st.integers(3, 9), st.integers(2, 90), st.integers(0, 2**31))
def test_every_target_is_the_input_m_steps_before(
    shortest: int, more: int, symbols: int, steps: int, seed: int
) -> None:
    longest = shortest + more
    sizes = {f"{split}_steps": 2 * longest + extra for split, extra in zip(SPLITS, (steps, 0, 1), strict=True)}
    task = copies(min_length=shortest, max_length=longest, symbols=symbols, **sizes, batch_size=3, seed=seed)
    for inputs, targets in streams(task):
        expected, found = decoded(inputs)
        np.testing.assert_array_equal(targets, expected)
        assert all(shortest <= m <= longest for m in found[:-1])
        assert all(m <= longest for m in found)
        assert not inputs[: np.argmax(inputs == 1)].any()  # blank before the first mark


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
    assert set(task.train.inputs.flatten().tolist()) == set(range(6))


def test_the_longest_m_grows_from_pass_to_pass_each_with_data_of_its_own() -> None:
    task = GrowingCopy(**GENERATED[GrowingCopy] | {"train_steps": 800})
    longest = []
    for number in range(6):
        stream = task.train_pass(number)
        found = [(decoded(inputs), targets) for inputs, targets in columns(stream)]
        assert all((targets == expected).all() for (expected, _), targets in found)
        longest.append(max(m for (_, lengths), _ in found for m in lengths))
        assert min(m for (_, lengths), _ in found for m in lengths[:-1]) == 2
        assert torch.equal(stream.inputs, task.train_pass(number).inputs)
    assert longest == [2, 3, 4, 5, 5, 5]
    assert torch.equal(task.train.inputs, task.train_pass(0).inputs)
    assert not torch.equal(task.train_pass(4).inputs, task.train_pass(5).inputs)
    assert max(m for inputs, _ in columns(task.valid) for m in decoded(inputs)[1]) == 5
