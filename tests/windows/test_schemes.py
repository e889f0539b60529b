import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from atbptt.errors import ConfigError
from atbptt.probes import lengths_seen
from atbptt.truncation import Adaptive, Fixed, Full, Policy, Randomized, Variable, Warmup
from atbptt.windows.schemes import SCHEMES, Window, check_scheme, cut, full_losses, random_phase, windows

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
        first, last = lengths_seen(scheme, np.array([K]))
        assert (first, last) == lags.get(scheme, lags["original-buffer"])
        assert last - first + 1 == full_losses(scheme, K)
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


@given(st.sampled_from([scheme for scheme in SCHEMES if scheme != "original"]), lengths, st.integers(1, 25), st.data())
def test_a_phase_shortens_the_first_window_and_moves_the_others(
    scheme: str, length: int, K: int, data: st.DataObject
) -> None:
    phase = data.draw(st.integers(1, full_losses(scheme, K)))
    window = cut(scheme, K, length, 0, 0, phase)
    made = [window]
    while made[-1].loss_stop < length:
        made.append(cut(scheme, K, length, made[-1].next_start, made[-1].loss_stop))
    assert [t for w in made for t in range(w.loss_start, w.loss_stop)] == list(range(length))
    assert window.loss_stop == min(phase, length) or (scheme == "buffer" and window.stop == length)
    for w in made[1:-1]:
        assert (w.loss_start - phase) % full_losses(scheme, K) == 0
    if scheme == "buffer":
        assert window.stop == min(phase + K - 1, length)


def test_phases_are_even_over_the_lengths_and_new_in_every_pass() -> None:
    drawn = [random_phase("double-tf", 3, 100, 0, number) for number in range(500)]
    assert np.bincount(drawn).tolist()[0] == 0
    assert (np.abs(np.bincount(drawn)[1:] - 100) < 40).all()  # 1..5, four standard errors
    assert drawn[:5] == [random_phase("double-tf", 3, 100, 0, number) for number in range(5)]
    assert drawn != [random_phase("double-tf", 3, 100, 1, number) for number in range(500)]
    assert max(random_phase("tf", 10**9, 7, 0, number) for number in range(100)) == 7  # at most the stream


@pytest.mark.parametrize(
    ("policy", "scheme", "rule"),
    [
        (Fixed(5), "original", "with scheme=original: it makes an update every step"),
        (Full(), "tf", "with the full policy: it would cut what is to be whole"),
        (Randomized(length=8.0), "tf", "with the randomized policy: its cuts are random already"),
    ],
)
def test_what_has_no_phase_refuses_a_random_one(policy: Policy, scheme: str, rule: str) -> None:
    check_scheme(policy, scheme, "fixed")
    with pytest.raises(ConfigError, match=rf"^phase \(=random\) must be fixed {rule}$"):
        check_scheme(policy, scheme, "random")
    with pytest.raises(ConfigError, match=r"^phase \(=randm\) must be one of fixed, random; did you mean random\?"):
        check_scheme(Fixed(5), "tf", "randm")


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
