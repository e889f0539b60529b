from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atbptt.probes.bias import BiasEstimate, Bound, RelativeBias
from atbptt.truncation import Adaptive, Progress


def estimate(
    K: int | None, finite: bool = True, measured: int | None = None, resampled: Sequence[int] = ()
) -> BiasEstimate:
    """An estimate whose K(0.5) is K: bias 1 before it, 0.1 from it on; measured, and in each resample, likewise."""

    def bias(K: int | None) -> np.ndarray:
        return np.where(np.arange(1, 51) < (K or 99), 1.0, 0.1) if finite else np.full(50, np.nan)

    all_resampled = np.array([bias(K) for K in resampled]).reshape(-1, 50)
    bound = Bound(bias(K), all_resampled, np.ones(1), -1.0, bias(K), np.full(len(resampled), -1.0))
    return BiasEstimate(bound, None if measured is None else RelativeBias(bias(measured), all_resampled))


def adaptive(**changed: Any) -> Adaptive:
    options: dict[str, Any] = {"delta": 0.5, "K_init": 10, "K_min": 2, "K_max": 40, "update_every": 1.0}
    return Adaptive(**(options | changed))


def at(epoch: float) -> Progress:
    return Progress(step=round(epoch * 100), epoch_steps=100)


@pytest.mark.parametrize(
    ("lengths", "K"),
    [([8], 8), ([8, 9], 8), ([1], 2), ([None], 40), ([None, 10], 25), ([45], 40)],
    ids=["one", "mean rounded down", "clamped to K_min", "none is K_max", "none in a mean", "clamped to K_max"],
)
def test_adaptive_takes_the_mean_length_of_its_probes(lengths: list[int | None], K: int) -> None:
    policy = adaptive()
    policy.update(at(1), lambda **_: [estimate(length) for length in lengths])
    assert policy.K == K


def test_each_probe_is_clamped_before_the_mean() -> None:
    policy = adaptive(K_max=60)
    for last in (300, None):  # beyond K_max, or none at all
        policy.update(at(1 if last else 2), lambda **_: [estimate(45)] * 4 + [estimate(last)])  # noqa: B023
        assert policy.K == (4 * 45 + 60) // 5
    published = adaptive(K_min=10, as_published=True)
    published.update(at(1), lambda **_: [estimate(K + 1) for K in (4, 5, 5, 3, 30)])
    assert published.K == 10  # the mean is 9; clamped one by one, 14


def test_as_published_takes_one_step_less_of_the_bound() -> None:
    for length, K in ((8, 7), (3, 2), (1, 2), (None, 40)):  # no less than K_min
        policy = adaptive(as_published=True)
        policy.update(at(1), lambda **_: [estimate(length)])  # noqa: B023
        assert policy.K == K
    measured = adaptive(as_published=True, estimator="measured")
    measured.update(at(1), lambda **_: [estimate(30, measured=8)])
    assert measured.K == 8


def test_updates_fall_on_multiples_of_update_every_and_not_before_the_first() -> None:
    probed = []
    policy = adaptive(update_every=0.5)
    for epoch in (0, 0.2, 0.49, 0.5, 0.6, 1.7, 1.9, 2.0):
        policy.update(at(epoch), lambda **_: probed.append(epoch) or [estimate(5)])  # noqa: B023
    assert probed == [0.5, 1.7, 2.0]


@pytest.mark.parametrize(
    ("options", "K", "needs"),
    [
        ({"estimator": "bound"}, 30, {"measured": False, "resampled": False}),
        ({"estimator": "measured"}, 7, {"measured": True, "resampled": False}),
        ({"confidence": 0.75}, 9, {"measured": False, "resampled": True}),  # in that share of the resamples
    ],
)
def test_the_estimator_named_and_the_confidence_pick_K_and_ask_for_what_they_need(
    options: dict[str, Any], K: int, needs: dict[str, bool]
) -> None:
    policy, asked = adaptive(**options), []
    found = [estimate(30, measured=7, resampled=[4, 6, 9, 20])]
    policy.update(at(1), lambda **options: asked.append(options) or found)
    assert policy.K == K
    assert asked == [needs]


@pytest.mark.parametrize(
    ("K_init", "length", "factor", "K"),
    [
        (10, 40, 2, 20),
        (10, 3, 2, 5),
        (10, 15, 2, 15),
        (11, 40, 1.5, 16),
        (11, 2, 1.5, 8),
        (2, 40, 1.1, 3),
        (3, 2, 1.1, 2),
    ],
    ids=["up", "down", "within", "up, rounded", "down, rounded", "up by 1", "down by 1"],
)
def test_K_moves_by_the_factor_at_most_but_always_by_one(K_init: int, length: int, factor: float, K: int) -> None:
    policy = adaptive(K_init=K_init, max_factor=factor)
    policy.update(at(1), lambda **_: [estimate(length)])
    assert policy.K == K


def test_a_probe_that_is_not_finite_is_ignored() -> None:
    policy = adaptive()
    policy.update(at(1), lambda **_: [estimate(8, finite=False)])
    assert policy.K == 10
    policy.update(at(2), lambda **_: [estimate(8, finite=False), estimate(6)])
    assert policy.K == 6
