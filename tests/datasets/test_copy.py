from typing import Any

import numpy as np
from hypothesis import given, settings, strategies as st

from atbptt.datasets import SPLITS, Copy
from tests.datasets.test_task import GENERATED


def copies(**changes: Any) -> Copy:
    return Copy(**GENERATED[Copy] | changes)


def streams(task: Copy) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each stream of each split, (T,) inputs and targets."""
    return [
        (getattr(task, split).inputs[:, b].numpy(), getattr(task, split).targets[:, b].numpy())
        for split in SPLITS
        for b in range(getattr(task, split).batch)
    ]


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
