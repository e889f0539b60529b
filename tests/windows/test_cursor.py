from __future__ import annotations

import copy

import pytest
from hypothesis import given, strategies as st

from atbptt.truncation import Fixed, Probe, Progress
from atbptt.windows.cursor import Cursor
from atbptt.windows.schemes import SCHEMES, Window, windows


class Listed:
    """K from a list, over and over; notes the progress it receives."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths, self.K, self.asked = lengths, lengths[0], []

    def update(self, progress: Progress, probe: Probe) -> None:  # noqa: ARG002
        self.K = self.lengths[len(self.asked) % len(self.lengths)]
        self.asked.append((progress.step, progress.epoch_steps))


def unasked(**_: object) -> list[object]:
    pytest.fail("probed")


def walk(cursor: Cursor, passes: int) -> list[Window]:
    found = []
    while cursor.epochs_done < passes:
        found.append(cursor.next_window(unasked))
        cursor.advance(found[-1], f"state at {found[-1].next_start}")
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_at_constant_K_a_pass_has_the_windows_of_its_scheme_and_so_has_the_next(scheme: str) -> None:
    expected = list(windows(scheme, 4, 21))
    assert walk(Cursor(scheme, Fixed(4), 21), 2) == expected * 2


def test_the_policy_receives_the_steps_of_all_passes() -> None:
    policy = Listed([4])
    walk(Cursor("tf", policy, 10), 2)
    assert policy.asked == [(0, 10), (4, 10), (8, 10), (10, 10), (14, 10), (18, 10)]


def test_a_pass_begins_without_a_state_and_a_window_in_the_one_handed_over() -> None:
    cursor = Cursor("tf", Fixed(4), 10)
    seen = []
    for _ in range(4):
        seen.append(cursor.state)
        cursor.advance(cursor.next_window(unasked), f"after {cursor.step}")
    assert seen == [None, "after 0", "after 4", None]


def test_K_beyond_the_stream_is_its_length() -> None:
    assert Cursor("tf", Fixed(4), 10).K == 4
    assert Cursor("tf", Fixed(400), 10).K == 10


@given(st.sampled_from(SCHEMES), st.integers(1, 40), st.lists(st.integers(1, 15), min_size=1, max_size=5), st.data())
def test_what_is_saved_is_all_it_takes_to_go_on(
    scheme: str, length: int, lengths: list[int], data: st.DataObject
) -> None:
    whole = walk(Cursor(scheme, Listed(lengths), length), 2)
    first = Cursor(scheme, Listed(lengths), length)
    done = [first.next_window(unasked)]
    first.advance(done[0], "state")
    for _ in range(data.draw(st.integers(0, len(whole) - 2))):
        done.append(first.next_window(unasked))
        first.advance(done[-1], "state")
    second = Cursor(scheme, copy.deepcopy(first.policy), length)
    second.restore(first.saved())
    assert second.state == first.state
    assert done + walk(second, 2) == whole
