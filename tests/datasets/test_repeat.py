import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from atbptt.datasets import SPLITS, Repeat


@settings(max_examples=40)
@given(st.integers(1, 20), st.integers(2, 9), st.integers(2, 60), st.integers(0, 2**31), st.data())
def test_a_symbol_comes_back_shifted(period: int, symbols: int, steps: int, seed: int, data: st.DataObject) -> None:
    shift = data.draw(st.integers(0, symbols - 1))
    task = Repeat(period, symbols, shift, max(period, steps), 40, 30, batch_size=3, seed=seed)
    for split in SPLITS:
        stream = getattr(task, split)
        sequence = torch.cat([stream.inputs, stream.targets[-1:]])  # (T + 1, B)
        assert torch.equal(sequence[period:], (sequence[:-period] + shift) % symbols)
        assert sequence.min() >= 0
        assert sequence.max() < symbols


def test_a_sequence_cannot_be_predicted_from_less_than_a_period() -> None:
    """Base symbols are independent: the present symbol says nothing about the next one."""
    sequence = Repeat(8, 4, 0, 8, 8, 8, batch_size=3000, seed=0).train
    joint = np.zeros((4, 4))
    np.add.at(joint, (sequence.inputs.flatten().numpy(), sequence.targets.flatten().numpy()), 1)
    np.testing.assert_allclose(joint / joint.sum(), 1 / 16, atol=0.01)
