import itertools

import pytest
from hypothesis import given, strategies as st

from atbptt.errors import ConfigError
from atbptt.truncation import Adaptive, Fixed, Full, Policy, Randomized, Variable, Warmup
from atbptt.windows.schemes import SCHEMES, Window, check_scheme, cut, full_losses, windows

schemes = st.sampled_from(SCHEMES)
lengths = st.integers(1, 60)
NOT_TF = tuple(scheme for scheme in SCHEMES if scheme != "tf")


def pass_with(scheme: str, length: int, Ks: list[int]) -> list[Window]:
    """One pass over a stream with K changing before every window."""
    made: list[Window] = []
    start = position = 0
    while position < length:
        made.append(cut(scheme, Ks[len(made) % len(Ks)], length, start, position))
        start, position = made[-1].next_start, made[-1].loss_stop
    return made


@given(schemes, lengths, st.lists(st.integers(1, 25), min_size=1, max_size=6))
def test_every_step_is_counted_once_from_a_known_state(scheme: str, length: int, Ks: list[int]) -> None:
    made = pass_with(scheme, length, Ks)
    counted = [t for w in made for t in range(w.loss_start, w.loss_stop)]
    assert counted == list(range(min(Ks[0], length) - 1 if scheme == "original" else 0, length))
    assert made[0].start == 0
    for w in made:
        assert 0 <= w.start <= w.loss_start < w.loss_stop <= w.stop <= length
        assert w.losses == w.loss_stop - w.loss_start
    for before, after in itertools.pairwise(made):
        # The forward pass of the window before has this state, or began with it.
        assert before.start <= after.start == before.next_start <= before.loss_stop


@given(lengths, st.integers(1, 25))
def test_each_scheme_has_the_losses_and_lags_of_its_definition(length: int, K: int) -> None:
    """Lags that the losses of the windows between the first and the last see, of TBPTT(k1, k2)."""
    lags = {"tf": (1, K), "double-tf": (1, 2 * K - 1), "original": (K, K), "original-buffer": (K, 2 * K - 1)}
    for scheme in SCHEMES:
        made = list(windows(scheme, K, length))
        assert {w.losses for w in made[:-1]} <= {full_losses(scheme, K)}
        if scheme in lags:
            assert {(w.loss_start - w.start + 1, w.loss_stop - w.start) for w in made[2:-1]} <= {lags[scheme]}
        else:
            assert {(w.losses, w.stop - w.start) for w in made[:-1]} <= {(K, 2 * K - 1)}


@given(schemes, lengths, st.integers(0, 10))
def test_a_length_of_the_stream_or_more_makes_one_window(scheme: str, length: int, more: int) -> None:
    (window,) = windows(scheme, length + more, length)
    assert (window.start, window.loss_stop, window.stop) == (0, length, length)
    assert window.loss_start == (length - 1 if scheme == "original" else 0)


def test_original_buffer_by_hand() -> None:
    """Also where K changes, which costs one transitional window."""
    made = [(w.start, w.loss_start, w.loss_stop) for w in windows("original-buffer", 4, 10)]
    assert made == [(0, 0, 4), (1, 4, 8), (5, 8, 10)]
    changing = pass_with("original-buffer", 40, [4, 4, 10, 10, 10])
    assert [w.losses for w in changing] == [4, 4, 10, 10, 10, 2]
    assert [w.loss_start - w.start for w in changing] == [0, 3, 3, 9, 9, 9]


@pytest.mark.parametrize(
    ("policy", "refused", "rule"),
    [
        (Fixed(5), (), ""),
        (Adaptive(delta=0.5, K_init=5, K_min=2, K_max=9, update_every=1.0), (), ""),
        (Warmup(K_init=2, K_final=9, epochs=1.0), (), ""),
        (Variable(base=8), ("original",), "another with the variable policy: "),
        (Randomized(length=8.0), NOT_TF, "tf with the randomized policy: "),
        (Full(), ("original",), "another with the full policy: "),
        (Full(window=8), NOT_TF, r"tf with the full policy's window \(=8\): "),
    ],
)
def test_a_policy_refuses_some_schemes(policy: Policy, refused: tuple[str, ...], rule: str) -> None:
    for scheme in SCHEMES:
        if scheme in refused:
            with pytest.raises(ConfigError, match=rf"^scheme \(={scheme}\) must be {rule}"):
                check_scheme(policy, scheme)
        else:
            check_scheme(policy, scheme)
