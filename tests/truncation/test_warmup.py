import pytest
from hypothesis import given, strategies as st

from atbptt.truncation import Progress, Warmup


def lengths(policy: Warmup, *steps: int) -> list[int]:
    """K at each of these steps of epochs of 100."""
    found = []
    for step in steps:
        policy.update(Progress(step, 100), lambda **_: pytest.fail("probed"))
        found.append(policy.K)
    return found


def test_K_grows_by_the_same_number_of_steps_or_the_same_factor_and_then_stays() -> None:
    policy = Warmup(K_init=2, K_final=12, epochs=2.0)
    assert policy.K == 2
    assert lengths(policy, 0, 19, 20, 39, 40, 100, 199, 200, 5000) == [2, 2, 3, 3, 4, 7, 11, 12, 12]
    policy = Warmup(K_init=2, K_final=32, epochs=4.0, growth="geometric")
    assert lengths(policy, 0, 100, 200, 300, 400, 500) == [2, 4, 8, 16, 32, 32]


@given(st.integers(1, 50), st.integers(0, 200), st.floats(0.01, 20), st.sampled_from(["linear", "geometric"]))
def test_K_never_shrinks_and_stays_between_its_ends(K_init: int, more: int, epochs: float, growth: str) -> None:
    policy = Warmup(K_init, K_init + more, epochs, growth)
    found = lengths(policy, *range(0, 2500, 13))
    assert found == sorted(found)
    assert found[0] == K_init
    assert found[-1] == K_init + more
