from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atbptt.bias import BiasEstimate
from atbptt.errors import ConfigError
from atbptt.truncation import Adaptive, Fixed, Progress


def estimate(K: int | None, finite: bool = True) -> BiasEstimate:
    """An estimate whose K(0.5) is K: bias 1 before it, 0.1 from it on."""
    bias = np.where(np.arange(1, 51) < (K or 99), 1.0, 0.1)
    phi = np.array([1.0 if finite else np.nan])
    return BiasEstimate(phi=phi, log_beta=-1.0, error=bias, bias=bias)


def adaptive(**changed: Any) -> Adaptive:
    options: dict[str, Any] = {"delta": 0.5, "K_init": 10, "K_min": 2, "K_max": 40, "update_every": 1.0}
    return Adaptive(**(options | changed))


def at(epoch: float) -> Progress:
    return Progress(step=round(epoch * 100), epoch_steps=100)


def test_fixed_never_changes_nor_probes() -> None:
    policy = Fixed(K=7)
    policy.update(at(3), lambda: pytest.fail("probed"))
    assert policy.K == 7


@pytest.mark.parametrize(
    ("lengths", "K"),
    [([8], 8), ([8, 9], 8), ([1], 2), ([None], 40), ([None, 10], 25), ([45], 40)],
    ids=["one", "mean rounded down", "clamped to K_min", "none is K_max", "none in a mean", "clamped to K_max"],
)
def test_adaptive_takes_the_mean_length_of_its_probes(lengths: list[int | None], K: int) -> None:
    policy = adaptive()
    policy.update(at(1), lambda: [estimate(length) for length in lengths])
    assert policy.K == K


def test_updates_fall_on_multiples_of_update_every_and_not_before_the_first() -> None:
    probed = []
    policy = adaptive(update_every=0.5)
    for epoch in (0, 0.2, 0.49, 0.5, 0.6, 1.7, 1.9, 2.0):
        policy.update(at(epoch), lambda: probed.append(epoch) or [estimate(5)])  # noqa: B023
    assert probed == [0.5, 1.7, 2.0]


def test_a_probe_that_is_not_finite_has_no_say() -> None:
    policy = adaptive()
    policy.update(at(1), lambda: [estimate(8, finite=False)])
    assert policy.K == 10
    policy.update(at(2), lambda: [estimate(8, finite=False), estimate(6)])
    assert policy.K == 6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"delta": 0}, r"delta \(=0\) must be greater than 0"),
        ({"delta": -0.1}, r"delta \(=-0.1\) must be greater than 0"),
        ({"K_min": 0}, r"K_min \(=0\) must be at least 1"),
        ({"K_min": 41}, r"K_min \(=41\) must not exceed K_max \(=40\)"),
        ({"K_init": 1}, r"K_init \(=1\) must lie in K_min..K_max \(=2..40\)"),
        ({"update_every": 0}, r"update_every \(=0\) must be greater than 0"),
    ],
)
def test_adaptive_refuses(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adaptive(**changed)


def test_fixed_refuses() -> None:
    with pytest.raises(ConfigError, match=r"K \(=0\) must be at least 1"):
        Fixed(K=0)
