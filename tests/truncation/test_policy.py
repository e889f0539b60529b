from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atbptt.errors import ConfigError
from atbptt.truncation import Adaptive, Fixed, Full, Progress, Randomized, Variable, Warmup
from atbptt.truncation.policy import adjoint_factors, check_scheme, share_of_base, update
from atbptt.windows.schemes import SCHEMES, Window

POLICIES = {
    "fixed": Fixed(5),
    "adaptive": Adaptive(delta=0.5, K_init=5, K_min=2, K_max=9, update_every=1.0),
    "warmup": Warmup(K_init=2, K_final=9, epochs=1.0),
    "variable": Variable(base=8),
    "randomized": Randomized(length=8.0),
    "full": Full(),
    "full with a window": Full(window=8),
}
REFUSED = {
    "variable": {"original": r"^scheme \(=original\) must be another with the variable policy: "},
    "randomized": {
        scheme: rf"^scheme \(={scheme}\) must be tf with the randomized policy: "
        for scheme in SCHEMES
        if scheme != "tf"
    },
    "full": {"original": r"^scheme \(=original\) must be another with the full policy: "},
    "full with a window": {
        scheme: rf"^scheme \(={scheme}\) must be tf with the full policy's window \(=8\): "
        for scheme in SCHEMES
        if scheme != "tf"
    },
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_takes_the_schemes_that_make_sense_and_says_why_not(policy: str, scheme: str) -> None:
    if message := REFUSED.get(policy, {}).get(scheme):
        with pytest.raises(ConfigError, match=message):
            check_scheme(POLICIES[policy], scheme)
    else:
        check_scheme(POLICIES[policy], scheme)


def test_a_scheme_that_there_is_not_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^scheme \(=tff\) must be one of .*did you mean tf\?$"):
        check_scheme(Fixed(5), "tff")


class Users:
    """A user's policy that leaves a numpy number, or none."""

    def __init__(self, K: Any) -> None:
        self.K = 1
        self.next = K

    def update(self, progress: Progress, probe: object) -> None:  # noqa: ARG002
        self.K = self.next


def test_what_a_policy_leaves_is_an_integer_from_1_on() -> None:
    policy = Users(np.int64(7))
    update(policy, Progress(0, 10), lambda **_: [])
    assert (policy.K, type(policy.K)) == (7, int)
    with pytest.raises(ConfigError, match=r"truncation.K \(=0\) must be at least 1 after an update"):
        update(Users(0), Progress(0, 10), lambda **_: [])


def test_what_only_some_policies_have_others_need_not() -> None:
    window = Window(start=0, loss_start=0, loss_stop=12, stop=12, next_start=12)
    assert share_of_base(Fixed(5), "tf", window) is None
    assert adjoint_factors(Fixed(5), window) is None
    assert share_of_base(Variable(base=8), "tf", window) == 1.5
    assert share_of_base(Variable(base=8), "double-tf", window) == 12 / 15
    assert adjoint_factors(Randomized(length=2.0, hazard="constant"), window) == [2.0] * 11
