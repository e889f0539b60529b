import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from atbptt import CosineDecay, InverseSqrtDecay, NoDecay, PlateauDecay, StepDecay
from atbptt.errors import ConfigError
from atbptt.windows.schedules import CheckedSchedule, LrSchedule

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (NoDecay(), {0: 8, 0.5: 8, 100: 8}),
        (NoDecay(warmup=2), {0: 0, 0.5: 2, 1: 4, 2: 8, 3: 8}),
        (InverseSqrtDecay(), {0: 8, 0.99: 8, 1: 8 / 2**0.5, 3: 4, 3.5: 4, 15: 2}),
        (InverseSqrtDecay(warmup=2), {0: 0, 1: 4, 2: 8, 2.5: 8, 5: 4}),
        (StepDecay([5, 2.5]), {0: 8, 2.4: 8, 2.5: 2, 4.9: 2, 5: 0.5, 99: 0.5}),
        (StepDecay([1], factor=3.0, warmup=2), {0.5: 2, 1: 12, 2: 24}),
        (CosineDecay(9), {0: 8, 3: 6, 4.5: 4, 6: 2, 9: 0, 12: 0}),
        (CosineDecay(9, final=0.5), {0: 8, 4.5: 6, 9: 4, 12: 4}),
        (CosineDecay(11, warmup=2), {0: 0, 1: 4, 2: 8, 5: 6, 11: 0}),
        (PlateauDecay(warmup=4), {0: 0, 1: 2, 4: 8}),
    ],
)
def test_rates_by_hand(schedule: LrSchedule, rates: dict[float, float]) -> None:
    assert [schedule.rate(8.0, epoch) for epoch in rates] == pytest.approx([*rates.values()], rel=1e-12, abs=1e-12)


def test_without_a_warmup_the_first_two_have_the_bits_that_they_had() -> None:
    for lr in (0.1, 0.3, 7e-4):
        assert NoDecay().rate(lr, 0.1) == lr
        assert [InverseSqrtDecay().rate(lr, n / 7) for n in range(99)] == [lr / (n // 7 + 1) ** 0.5 for n in range(99)]


@pytest.mark.parametrize(
    ("patience", "values", "rates"),
    [
        (1, [9, 8, 8, 7, 7.5, 7.2], [16, 16, 4, 4, 1, 0.25]),  # against the best, not the one before
        (2, [9, 9, 9, 9, 9, 8, 8], [16, 16, 4, 4, 1, 1, 1]),
        (1, [NAN, 9, INF, 8, NAN], [16, 16, 4, 4, 1]),  # the first is no worse than none
        (1, [INF, INF], [16, 4]),
    ],
)
def test_a_plateau_is_of_evaluations_without_a_better_one(
    patience: int, values: list[float], rates: list[float]
) -> None:
    schedule, found = PlateauDecay(patience=patience), []
    for value in values:
        schedule.validated(value)
        found.append(schedule.rate(16.0, 3.0))
    assert found == rates


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (NoDecay, {"warmup": -1}, r"warmup \(=-1\) must be at least 0"),
    (InverseSqrtDecay, {"warmup": INF}, r"warmup \(=inf\) must be at least 0"),
    (StepDecay, {"epochs": []}, r"epochs \(=\[\]\) must be a list of epochs greater than 0"),
    (StepDecay, {"epochs": [1, 0]}, r"epochs \(=\[1, 0\]\) must be a list"),
    (StepDecay, {"epochs": [NAN]}, r"epochs \(=\[nan\]\) must be a list"),
    (StepDecay, {"epochs": [1], "factor": 0}, r"factor \(=0\) must be greater than 0"),
    (PlateauDecay, {"factor": 1}, r"factor \(=1\) must be greater than 0 and less than 1"),
    (PlateauDecay, {"patience": 0}, r"patience \(=0\) must be at least 1"),
    (PlateauDecay, {"patience": 1.5}, r"patience \(=1.5\) must be a whole number"),
    (CosineDecay, {"epochs": 0}, r"epochs \(=0\) must be greater than warmup \(=0 epochs\)"),
    (CosineDecay, {"epochs": 3, "warmup": 3}, r"epochs \(=3\) must be greater than warmup \(=3 epochs\)"),
    (CosineDecay, {"epochs": 3, "final": 1.1}, r"final \(=1.1\) must be at least 0 and at most 1"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), BAD)
def test_a_broken_rule_is_reported(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        kind(**arguments)


def test_an_object_with_a_rate_only_is_a_schedule() -> None:
    given = SimpleNamespace(rate=lambda lr, epoch: np.float32(lr / 2**epoch))
    schedule = CheckedSchedule(given)
    schedule.validated(1.0)
    assert schedule.rate(8.0, 2.0) == 2.0
    assert type(schedule.rate(8.0, 2.0)) is float
    schedule.load_state_dict({**schedule.state_dict(), "rate": lambda *_: 5})
    assert schedule.rate(8.0, 2.0) == 5


@pytest.mark.parametrize("rate", [NAN, INF, -1e-9, None, "0.1", True, torch.tensor(0.1)])
def test_a_rate_that_is_none_is_reported(rate: object) -> None:
    with pytest.raises(ConfigError, match=r"^rate\(lr=1, epoch=2.5\) \(=.*\) must be a finite number of at least 0$"):
        CheckedSchedule(SimpleNamespace(rate=lambda *_: rate)).rate(1.0, 2.5)


@pytest.mark.parametrize(("given", "kind"), [(object(), "object"), (SimpleNamespace(rate=1.0), "SimpleNamespace")])
def test_what_has_no_rate_is_no_schedule(given: object, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"^_target_ \(={kind}\) must have a method rate\(lr, epoch\)$"):
        CheckedSchedule(given)
