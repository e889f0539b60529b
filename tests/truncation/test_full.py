import pytest

from atbptt.truncation import Full
from atbptt.windows.cursor import Cursor
from atbptt.windows.schemes import SCHEMES


def lengths(policy: Full, scheme: str) -> list[tuple[int, int, int]]:
    """First step, first loss and last step of the windows of a pass over 19 steps."""
    cursor, found = Cursor(scheme, policy, 19), []
    while not cursor.epochs_done:
        window = cursor.next_window(lambda **_: pytest.fail("probed"))
        cursor.advance(window, None)
        found.append((window.start, window.loss_start, window.stop))
    return found


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "original"])
def test_the_whole_stream_is_one_window(scheme: str) -> None:
    policy = Full()
    assert Cursor(scheme, policy, 19).K == 19
    assert lengths(policy, scheme) == [(0, 0, 19)]
    assert policy.K == 19


def test_with_a_window_the_stream_is_cut_in_pieces_of_that_length() -> None:
    assert lengths(Full(window=8), "tf") == [(0, 0, 8), (8, 8, 16), (16, 16, 19)]
