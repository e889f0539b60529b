import copy

import pytest
import torch
from hypothesis import given, settings, strategies as st

from atbptt.truncation import Probe, Progress
from atbptt.windows.cursor import Cursor
from atbptt.windows.schemes import SCHEMES, Window, windows


class Listed:
    """K from a list, over and over; notes the progress it receives."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths, self.K, self.asked = lengths, lengths[0], []

    def update(self, progress: Progress, probe: Probe) -> None:  # noqa: ARG002
        self.K = self.lengths[len(self.asked) % len(self.lengths)]
        self.asked.append((progress.step, progress.epoch_steps))


def walk(cursor: Cursor, passes: int) -> list[Window]:
    found = []
    while cursor.epochs_done < passes:
        assert (cursor.state is None) == (cursor.position == 0)
        found.append(cursor.next_window(lambda **_: pytest.fail("probed")))
        cursor.advance(found[-1], f"state at {found[-1].next_start}")
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_at_constant_K_every_pass_has_the_windows_of_its_scheme(scheme: str) -> None:
    assert walk(Cursor(scheme, Listed([4]), 21), 2) == list(windows(scheme, 4, 21)) * 2


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "original"])
def test_with_a_random_phase_passes_end_elsewhere_and_a_restored_one_goes_on_alike(scheme: str) -> None:
    made = walk(Cursor(scheme, Listed([4]), 21, phase_seed=3), 6)
    begins = [number for number, window in enumerate(made) if window.start == window.loss_start == 0]
    assert len({made[number].losses for number in begins}) > 1
    first, second = (Cursor(scheme, Listed([4]), 21, phase_seed=3) for _ in range(2))
    walk(first, 2)
    second.restore(first.saved(), None)
    assert walk(second, 6) == made[begins[2] :]


def test_the_policy_receives_the_steps_of_all_passes() -> None:
    policy = Listed([4])
    walk(Cursor("tf", policy, 10), 2)
    assert policy.asked == [(0, 10), (4, 10), (8, 10), (10, 10), (14, 10), (18, 10)]


@settings(max_examples=50)
@given(st.sampled_from(SCHEMES), st.integers(1, 40), st.lists(st.integers(1, 15), min_size=1, max_size=5), st.data())
def test_a_cursor_restored_goes_on_as_the_one_saved(
    scheme: str, length: int, lengths: list[int], data: st.DataObject
) -> None:
    whole = walk(Cursor(scheme, Listed(lengths), length), 2)
    first = Cursor(scheme, Listed(lengths), length)
    done = data.draw(st.integers(1, len(whole) - 1))
    for window in whole[:done]:
        assert first.next_window(lambda **_: []) == window
        first.advance(window, (torch.tensor([float(window.next_start)]),))
    second = Cursor(scheme, copy.deepcopy(first.policy), length)
    second.restore(first.saved(), (torch.zeros(1),))
    assert second.state == first.state
    assert walk(second, 2) == whole[done:]
