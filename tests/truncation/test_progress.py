import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from atbptt.errors import ConfigError
from atbptt.probes.bias import BiasEstimate, Bound, RelativeBias
from atbptt.probes.parameters import GradientNoise
from atbptt.truncation import Progress, ProgressPerCost

W = 20
K = np.arange(1.0, W + 1)


def estimate(reach: float, noise: float, sine: np.ndarray | None = None, size: float = 1.0) -> BiasEstimate:
    """Under scheme tf, of a gradient whose projection on the full one grows to 1 over `reach` steps.

    A loss of the one stream has the variance `noise`; all gradients are `size` times as large.
    """
    along = 1 - np.exp(-K / reach)
    signal = along**2
    lengths = np.arange(1, W + 1)
    parts = (signal + noise, np.ones(W), signal, along)
    of_all = GradientNoise(1, lengths, lengths, *(size**2 * part for part in parts))
    bound = Bound(np.ones(W), np.empty((0, W)), np.ones(W), -1.0, np.ones(W), np.empty(0))
    measured = RelativeBias(1 - along, np.empty((0, W)))
    cosine = np.sqrt(1 - np.square(np.zeros(W) if sine is None else sine))
    return BiasEstimate(bound, measured, measured, of_all, cosine)


def chosen(*found: BiasEstimate, **options: Any) -> int:
    policy = ProgressPerCost(**({"K_init": 10, "K_max": W, "hold": 0.0, "memory": 0.0, "update_cost": 2.0} | options))
    policy.update(Progress(100, 100), lambda **_: found)
    return policy.K


def best(reach: float, noise: float, cost: float) -> int:
    """The K of the largest (g m)^2 / (||m||^2 + noise / K) per cost, by hand."""
    along = 1 - np.exp(-K / reach)
    return int(np.argmax(along**2 / (along**2 + noise / K) / (cost + K))) + 1


@pytest.mark.parametrize(("reach", "noise", "cost"), [(3, 0.0, 2.0), (3, 1.0, 2.0), (3, 30.0, 2.0), (8, 30.0, 9.0)])
def test_the_K_with_the_most_progress_per_cost_by_hand(reach: float, noise: float, cost: float) -> None:
    assert chosen(estimate(reach, noise), update_cost=cost) == best(reach, noise, cost)


def test_noise_and_costly_updates_make_windows_longer() -> None:
    assert chosen(estimate(3, 0.0)) < chosen(estimate(3, 1.0)) < chosen(estimate(3, 30.0))
    assert chosen(estimate(3, 1.0), update_cost=0.5) < chosen(estimate(3, 1.0), update_cost=30.0)


def test_only_lengths_with_the_direction_asked_for_are_considered() -> None:
    sine = np.where(K < 7, 0.5, 0.1)
    assert chosen(estimate(3, 0.0, sine)) == 7
    assert chosen(estimate(3, 0.0, sine), max_sine=0.6) == best(3, 0.0, 2.0) < 7
    assert chosen(estimate(3, 0.0, np.full(W, 0.5)), K_max=15) == 15  # none has it
    assert chosen(estimate(3, 0.0), K_min=6) == 6
    assert chosen(estimate(3, 30.0), K_init=2, K_max=4) == 4


def test_K_stays_while_little_would_be_gained() -> None:
    found = estimate(3, 1.0)
    target = best(3, 1.0, 2.0)
    assert chosen(found, K_init=target + 1, hold=0.05) == target + 1
    assert chosen(found, K_init=W, hold=0.05) == target


def test_probes_are_averaged_in_units_of_their_own_gradients() -> None:
    near, far = estimate(2, 0.1), estimate(8, 10.0)
    both = chosen(near, far)
    assert chosen(near) < both < chosen(far)
    assert chosen(near, estimate(8, 10.0, size=1e6)) == chosen(far, near) == both


def test_a_strong_signal_counts_no_more_than_later_weak_ones() -> None:
    """Training begins with a signal a hundred times as strong as soon after, and short windows that pay then only."""
    policy = ProgressPerCost(K_max=W, hold=0.0)
    for epoch, found in enumerate([estimate(2, 0.01), *[estimate(2, 100.0)] * 3]):
        policy.update(Progress(1000 * (epoch + 1), 100), lambda **_: [found])  # noqa: B023
    weak = best(2, 100.0, 12.0)
    assert best(2, 0.01, 12.0) < 0.5 * weak
    assert 0.7 * weak < policy.K


def test_earlier_updates_count_by_the_memory() -> None:
    def after_two(memory: float) -> int:
        policy = ProgressPerCost(K_max=W, hold=0.0, memory=memory, update_cost=2.0)
        policy.update(Progress(100, 100), lambda **_: [estimate(8, 10.0)])
        policy.update(Progress(900, 100), lambda **_: [estimate(2, 0.1)])
        return policy.K

    assert after_two(0.0) == chosen(estimate(2, 0.1)) < after_two(0.5) < chosen(estimate(8, 10.0))


def test_an_update_against_the_gradient_has_not_its_direction() -> None:
    against = replace(estimate(3, 0.0), cosine=np.where(K < 7, -1.0, 1.0))
    assert chosen(against) == 7


def test_a_probe_that_is_not_finite_is_ignored() -> None:
    broken = estimate(3, math.inf)
    assert chosen(broken) == 10
    assert chosen(broken, estimate(3, 1.0)) == best(3, 1.0, 2.0)


def test_updates_come_often_while_K_changes_much_and_then_every_so_many_epochs() -> None:
    policy, steps = ProgressPerCost(K_init=best(3, 1.0, 12.0), first_update=0.1, update_every=2.0, memory=0.0), []
    for step in range(1501):
        found = estimate(3, 1.0) if step < 900 else estimate(8, 30.0)  # K becomes K_max
        policy.update(Progress(step, 100), lambda **_: steps.append(step) or [found])  # noqa: B023
    assert steps == [10, 30, 70, 150, 310, 510, 710, 910, 1010, 1210, 1410]


@pytest.mark.parametrize(("K", "interval"), [(12, 2.0), (9, 2.0), (13, 0.5), (8, 0.5)])
def test_K_has_changed_if_it_did_by_more_than_a_fifth(K: int, interval: float, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = ProgressPerCost(K_init=10, first_update=0.1)
    policy.interval = 1.0
    monkeypatch.setattr(policy, "_best", lambda: K)
    policy.update(Progress(100, 100), lambda **_: [estimate(3, 1.0)])
    assert (policy.K, policy.interval) == (K, interval)


def test_it_goes_on_from_a_checkpoint() -> None:
    whole, first = ProgressPerCost(K_max=W), ProgressPerCost(K_max=W)
    found = [estimate(reach, noise) for reach, noise in ((2, 0.1), (8, 10.0), (4, 3.0))]
    for step, each in zip((100, 300, 500), found, strict=True):
        whole.update(Progress(step, 100), lambda **_: [each])  # noqa: B023
    first.update(Progress(100, 100), lambda **_: found[:1])
    second = ProgressPerCost(K_max=W)
    second.load_state_dict(first.state_dict())
    for step, each in zip((300, 500), found[1:], strict=True):
        second.update(Progress(step, 100), lambda **_: [each])  # noqa: B023
    assert vars(second) == vars(whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"K_init": 50}, r"K_init \(=50\) must lie in K_min..K_max \(=1..40\)"),
        ({"K_min": 41}, r"K_min \(=41\) must not exceed K_max \(=40\)"),
        ({"first_update": 5.0}, r"first_update \(=5.0\) must be greater than 0 and at most update_every \(=4\)"),
        ({"update_every": 0.0}, r"update_every \(=0.0\) must be greater than 0"),
        ({"update_cost": -1.0}, r"update_cost \(=-1.0\) must be at least 0"),
        ({"max_sine": 1.5}, r"max_sine \(=1.5\) must be greater than 0 and at most 1"),
        ({"memory": 1.0}, r"memory \(=1.0\) must be at least 0 and less than 1"),
        ({"hold": -0.1}, r"hold \(=-0.1\) must be at least 0 and less than 1"),
    ],
)
def test_what_breaks_a_rule_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        ProgressPerCost(**options)
