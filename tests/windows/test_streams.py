import pytest
import torch
from hypothesis import given, strategies as st

from atbptt.windows.streams import Stream


def test_a_stream_moves_with_both_its_parts_and_has_time_first() -> None:
    moved = Stream(torch.zeros(7, 3, 2), torch.ones(7, 3, 2)).to(torch.device("meta"))
    assert moved.inputs.device.type == moved.targets.device.type == "meta"
    assert (moved.length, moved.batch) == (7, 3)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32])
def test_symbols_are_read_as_int64_however_they_are_stored_and_reals_as_they_are(kind: torch.dtype) -> None:
    stored = torch.arange(12).view(4, 3).to(kind)
    stream = Stream(stored, stored.flip(1))
    for parts in (stream.read(1, 3), stream.draw(2, torch.Generator())[:2]):
        assert {part.dtype for part in parts} == {kind if kind.is_floating_point else torch.int64}
    inputs, targets = stream.read(1, 3)
    assert [inputs.tolist(), targets.tolist()] == [[[3, 4, 5], [6, 7, 8]], [[5, 4, 3], [8, 7, 6]]]
    assert stream.read(2, 9)[0].tolist() == stored[2:].tolist()


@given(st.integers(1, 12), st.integers(0, 2**31))
def test_windows_are_consecutive_steps_of_each_stream(steps: int, seed: int) -> None:
    length, batch = 12, 4
    inputs = torch.arange(length * batch).view(length, batch)
    found, same, *_ = Stream(inputs, inputs).draw(steps, torch.Generator().manual_seed(seed))
    assert torch.equal(found, same)
    assert torch.equal(found % batch, torch.arange(batch).expand(steps, batch))
    assert torch.equal(found - found[0], batch * torch.arange(steps)[:, None].expand(steps, batch))


def test_starts_are_independent_and_reach_both_ends() -> None:
    inputs = torch.arange(10)[:, None].expand(10, 400)
    starts, *_ = Stream(inputs, inputs).draw(4, torch.Generator().manual_seed(0))
    assert set(starts[0].tolist()) == set(range(7))
