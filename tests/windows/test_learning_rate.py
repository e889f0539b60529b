from __future__ import annotations

from atbptt.truncation import Fixed, Variable
from atbptt.windows.learning_rate import scaled_lr, share_of_base
from atbptt.windows.schemes import Window


def test_lr_scales_with_K() -> None:
    assert [scaled_lr(2.0, scaling, 9) for scaling in ("none", "sqrt", "linear")] == [2.0, 6.0, 18.0]
    assert [scaled_lr(2.0, scaling, 36, 1 / 4) for scaling in ("none", "sqrt", "linear")] == [2.0, 6.0, 18.0]
    assert scaled_lr(2.0, "linear", 9, 17 / 9) == 18.0  # a window that sees the stream's end, in scheme buffer


def test_windows_are_a_share_of_the_base_of_a_policy_that_has_one() -> None:
    window = Window(start=0, loss_start=0, loss_stop=12, stop=12, next_start=12)
    assert share_of_base(Fixed(5), "tf", window) is None
    assert share_of_base(Variable(base=8), "tf", window) == 1.5
    assert share_of_base(Variable(base=8), "double-tf", window) == 12 / 15
