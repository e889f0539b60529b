import numpy as np
import pytest

from atbptt.errors import ConfigError
from atbptt.truncation import Progress, Variable
from atbptt.windows.cursor import Cursor
from atbptt.windows.schemes import window_lr


def drawn(policy: Variable, count: int) -> np.ndarray:
    found = []
    for step in range(count):
        policy.update(Progress(step, 100), lambda **_: pytest.fail("probed"))
        found.append(policy.K)
    return np.array(found)


def test_lengths_are_normal_around_the_base_and_seldom_around_its_half() -> None:
    """Of 4000 draws: shares and moments of the mixture, within four of their standard errors."""
    found = drawn(Variable(base=70, sd=5.0), 4000)
    short = found < 52  # 3.4 sd from either centre
    assert abs(short.mean() - 0.05) < 4 * (0.05 * 0.95 / 4000) ** 0.5
    long = found[~short] + 0.5  # rounded down
    assert abs(long.mean() - 70) < 4 * 5 / len(long) ** 0.5
    assert abs(long.std() - 5) < 4 * 5 / (2 * len(long)) ** 0.5
    assert abs(found[short].mean() + 0.5 - 35) < 4 * 5 / short.sum() ** 0.5


def test_no_length_is_shorter_than_K_min() -> None:
    found = drawn(Variable(base=6, sd=5.0, K_min=4), 500)
    assert found.min() == 4
    assert (found == 4).mean() > 0.2
    assert drawn(Variable(base=6, sd=5.0, K_max=9), 500).max() == 9
    with pytest.raises(ConfigError, match=r"^K_max \(=5\) must be at least base \(=6\)$"):
        Variable(base=6, K_max=5)
    assert set(drawn(Variable(base=20, sd=0.0, half_probability=0.5), 100)) == {10, 20}


@pytest.mark.parametrize("scheme", ["tf", "double-tf", "original-buffer", "buffer"])
@pytest.mark.parametrize(("scaling", "scaled"), [("none", 0.5), ("sqrt", 1.5), ("linear", 4.5)])
def test_every_step_of_the_stream_counts_the_same_in_whatever_window(scheme: str, scaling: str, scaled: float) -> None:
    """AWD-LSTM's rule: with a mean loss, lr times length over base is the same for each of a window's losses."""
    policy = Variable(base=9, sd=3.0, K_min=2)
    cursor = Cursor(scheme, policy, 400)
    lengths = set()
    while not cursor.epochs_done:
        window = cursor.next_window(lambda **_: [])
        cursor.advance(window, None)
        full = 17 if scheme == "double-tf" else 9
        assert window_lr(0.5, scaling, policy, scheme, window.losses) / window.losses == pytest.approx(scaled / full)
        lengths.add(window.losses)
    assert len(lengths) > 5
