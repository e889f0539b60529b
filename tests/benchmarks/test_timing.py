from __future__ import annotations

import sys
import time

import pytest
import torch

from benchmarks.memory import peak_growth
from benchmarks.timing import Measured, interleaved, seconds_of

CPU = torch.device("cpu")


def test_calls_are_timed_in_turn_after_one_call_each() -> None:
    called: list[str] = []
    first, second = interleaved([lambda: called.append("a"), lambda: called.append("b")], repeats=3, device=CPU)
    assert called == ["a", "b"] * 2 + ["a", "a", "b", "b"] * 2  # short ones once before, from the second turn on
    assert len(first.seconds) == len(second.seconds) == 3


def test_the_seconds_are_those_of_the_call() -> None:
    assert 0.02 <= seconds_of(lambda: time.sleep(0.02), CPU) < 5


def test_the_median_and_the_parts_of_a_call() -> None:
    measured = Measured((4.0, 1.0, 2.0), memory_bytes=10)
    assert measured.median == 2.0
    assert measured.per(2) == Measured((2.0, 0.5, 1.0), memory_bytes=10)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux only")
def test_the_peak_is_of_the_call_alone() -> None:
    """40 MB that are free again when the call ends, whatever was used before."""
    held = torch.ones(25_000_000)
    del held
    grown = peak_growth(lambda: torch.ones(10_000_000), CPU)
    if grown is None:
        pytest.skip("this container does not let a process reset its peak")
    assert 35e6 < grown < 80e6
    small = peak_growth(lambda: torch.ones(10), CPU)
    assert small is not None
    assert small < 5e6
