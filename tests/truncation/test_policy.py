from fractions import Fraction
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from atbptt.errors import ConfigError
from atbptt.truncation import Adaptive, Fixed, Full, Progress, Randomized, Variable, Warmup
from atbptt.truncation.policy import Policy, completed, next_due, update


class Users:
    """A user's policy that leaves a numpy number, or none."""

    def __init__(self, K: Any) -> None:
        self.K = 1
        self.next = K

    def update(self, progress: Progress, probe: object) -> None:  # noqa: ARG002
        self.K = self.next


def test_what_a_policy_leaves_is_an_integer_from_1_on() -> None:
    policy = Users(np.int64(7))
    update(completed(policy), Progress(0, 10), lambda **_: [])
    assert (policy.K, type(policy.K)) == (7, int)
    for K, rule in ((0, "at least 1"), (2.0, "an integer")):
        with pytest.raises(ConfigError, match=rf"truncation.K \(={K}\) must be {rule} after an update"):
            update(completed(Users(K)), Progress(0, 10), lambda **_: [])


UPDATED: list[int] = []


def noted(progress: Progress, probe: Any) -> None:  # noqa: ARG001  (as any policy's)
    UPDATED.append(progress.step)


def test_an_object_with_K_and_update_has_the_rest_by_default_and_keeps_its_own() -> None:
    users = Users(7)
    policy = completed(users)
    assert (policy.base, policy.probes, policy.estimator, policy.confidence) == (None, False, "bound", None)
    assert policy.adjoint_factors(3) is None
    policy.check_scheme("original")
    update(policy, Progress(0, 10), lambda **_: [])
    assert (policy.K, users.K) == (7, 7)
    assert policy.state_dict() == {"K": 7, "next": 7}
    policy.load_state_dict({"K": 2, "next": 3})
    assert (users.K, users.next) == (2, 3)
    users.base, users.probes, users.estimator = 12, True, "measured"  # type: ignore[attr-defined]
    policy = completed(users)
    assert (policy.base, policy.probes, policy.estimator) == (12, True, "measured")
    users.base = 9  # type: ignore[attr-defined]  # as an update may, or a checkpoint
    assert policy.base == 9
    users.state_dict = lambda: {"next": 1}  # type: ignore[attr-defined]  # its own, where it has one
    assert completed(users).state_dict() == {"next": 1}
    for bare in (type("Bare", (), {})(), SimpleNamespace()):
        bare.K, bare.update = 3, noted  # attributes of the object
        policy = completed(bare)
        assert (policy.K, type(policy).__name__, policy.probes) == (3, type(bare).__name__, False)
        UPDATED.clear()
        policy.update(Progress(4, 10), lambda **_: [])
        assert UPDATED == [4]
        policy.K = 5
        assert bare.K == 5


def test_a_policy_that_is_one_is_itself() -> None:
    policy = Fixed(5)
    assert completed(policy) is policy
    update(policy, Progress(step=300, epoch_steps=100), lambda **_: pytest.fail("probed"))
    assert (policy.K, policy.adjoint_factors(12)) == (5, None)
    with pytest.raises(TypeError, match="update"):
        type("Idle", (Policy,), {"K": 1})()


class Asking(Users):
    def update(self, progress: Progress, probe: Any) -> None:
        if progress.step > 100:
            self.next = [found.bound.at(self.K) for found in probe()]


class AskingInside(Users):
    def update(self, progress: Progress, ask: Any) -> None:  # noqa: ARG002
        self.next = lambda: ask()


def hidden(update: Any) -> Any:
    return type("Hidden", (), {"K": 1, "update": staticmethod(update)})()


@pytest.mark.parametrize(
    ("policy", "probes"),
    [
        (Users(1), False),
        (Asking(1), True),
        (AskingInside(1), True),
        # What cannot be looked at is taken not to probe.
        *((hidden(update), False) for update in (print, lambda *arguments: arguments, lambda progress: progress)),
    ],
)
def test_whether_a_policy_probes_is_seen_by_its_update(policy: Any, probes: bool) -> None:
    assert completed(policy).probes == probes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"K": 0}, r"^K \(=0\) must be an integer from 1 on"),
        ({"__slots__": ()}, r"^_target_ \(=Users\) cannot be stored in a checkpoint"),
        (
            {"__init__": lambda self: setattr(self, "seen", {1})},
            r"^_target_ \(=Users\) cannot be stored in a checkpoint",
        ),
    ],
)
def test_a_policy_that_cannot_be_used_or_stored_is_reported(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        completed(type("Users", (), {"K": 3, "update": lambda *_: None, **content})())


@pytest.mark.parametrize("kind", [partial(Variable, base=70), partial(Randomized, length=10.0)])
def test_what_is_drawn_depends_on_the_seed_and_the_step_alone(kind: Any) -> None:
    def lengths(policy: Policy, steps: int = 40) -> list[int]:
        found = []
        for step in range(steps):
            policy.update(Progress(step, 1000), lambda **_: pytest.fail("probed"))
            found.append(policy.K)
        return found

    first, again = lengths(kind()), kind()
    lengths(again, 7)
    assert lengths(again) == first != lengths(kind(seed=1))
    assert len(set(first)) > 8


@pytest.mark.parametrize("epoch_steps", [60, 100, 500, 1000, 4000])
@pytest.mark.parametrize("every", ["0.05", "0.1", "0.2", "0.4", "1.1", "1.25", "0.3"])
def test_decimal_fractions_fall_where_they_do_by_hand(every: str, epoch_steps: int) -> None:
    step, found = 0, []
    while len(found) < 40:
        step = next_due(step, float(every), epoch_steps)
        found.append(step)
    exact = [n * Fraction(every) * epoch_steps for n in range(1, 41)]
    assert found == [-((-e.numerator) // e.denominator) for e in exact]


@given(st.integers(0, 10**6), st.floats(0.001, 10), st.integers(2, 5000))
def test_something_is_due_after_every_step_and_within_an_interval(step: int, every: float, T: int) -> None:
    due = next_due(step, every, T)
    assert step < due <= step + max(every * T, 1) + 1


def test_a_schedule_is_never_finer_than_a_step() -> None:
    assert next_due(7, 1e-300, 100) == 8


ARGUMENTS: dict[Any, dict[str, Any]] = {
    Adaptive: {"delta": 0.5, "K_init": 10, "K_min": 2, "K_max": 40, "update_every": 1.0},
    Fixed: {},
    Full: {},
    Randomized: {"length": 5.0},
    Variable: {"base": 9},
    Warmup: {"K_init": 2, "K_final": 9, "epochs": 1.0},
}
INFINITE = float("inf")


@pytest.mark.parametrize(
    ("kind", "name", "value", "rule"),
    [
        (Adaptive, "delta", 0, "must be greater than 0"),
        (Adaptive, "K_min", 0, "must be at least 1"),
        (Adaptive, "K_min", 41, r"must not exceed K_max \(=40\)"),
        (Adaptive, "K_init", 1, r"must lie in K_min..K_max \(=2..40\)"),
        (Adaptive, "estimator", "bond", r"must be one of bound, measured; did you mean bound\?"),
        (Adaptive, "confidence", 1.0, "must lie between 0 and 1, or null"),
        (Adaptive, "confidence", 0, "must lie between 0 and 1, or null"),
        (Adaptive, "max_factor", 1, "must be greater than 1, or null"),
        (Adaptive, "update_every", 0, "must be greater than 0"),
        (Fixed, "K", 0, "must be at least 1"),
        (Fixed, "K", 10.0, "must be a whole number, at least 1"),
        (Fixed, "K", True, "must be a whole number, at least 1"),
        (Full, "window", 0, "must be at least 1"),
        (Randomized, "length", 1, "must be greater than 1"),
        (Randomized, "length", INFINITE, "must be greater than 1"),
        (Randomized, "seed", -1, "must be at least 0"),
        (Randomized, "hazard", "increasing", "must be one of constant, decreasing"),
        (Randomized, "alpha", 1.0, "must be greater than 1"),
        (Variable, "base", 0, "must be at least 1"),
        (Variable, "sd", -1, "must be at least 0"),
        (Variable, "half_probability", 1.5, "must lie between 0 and 1"),
        (Variable, "K_min", 0, "must be at least 1"),
        (Variable, "K_min", 10, r"must be at most base \(=9\)"),
        (Variable, "seed", None, "must be a whole number, at least 0"),
        (Warmup, "K_init", 0, "must be at least 1"),
        (Warmup, "K_final", INFINITE, "must be a whole number, at least 1"),
        (Warmup, "K_final", 1, r"must be at least K_init \(=2\)"),
        (Warmup, "epochs", 0, "must be greater than 0"),
        (Warmup, "growth", "geometrical", r"must be one of linear, geometric; did you mean geometric\?"),
    ],
)
def test_arguments_that_break_a_rule_are_refused(kind: Any, name: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} \(=.*\) {rule}"):
        kind(**{**ARGUMENTS[kind], name: value})
