"""Times of several ways to do the same, measured alternately."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.aside import Aside
from benchmarks.memory import peak_growth

Call = Callable[[], object]

SHORT = 0.5  # seconds
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Measured:
    """Time and memory of one call.

    Attributes:
        seconds: time of each repeat.
        memory_bytes: growth of the peak memory during one call; None if not measured.
    """

    seconds: tuple[float, ...]
    memory_bytes: int | None = None

    @property
    def median(self) -> float:
        """Median seconds of a repeat."""
        return statistics.median(self.seconds)

    def per(self, count: float) -> Measured:
        """The times of one of `count` equal parts of a call, with the memory of the whole call."""
        return replace(self, seconds=tuple(seconds / count for seconds in self.seconds))


def in_turn(calls: Sequence[Call], repeats: int, device: torch.device = CPU) -> list[Measured]:
    """Time each call `repeats` times, alternately: what slows the machine for a while slows all of them."""
    rounds = [[seconds_of(call, device) for call in calls] for _ in range(repeats)]
    return [Measured(seconds) for seconds in zip(*rounds, strict=True)]


def interleaved(calls: Sequence[Call], repeats: int, device: torch.device) -> list[Measured]:
    """As `in_turn`, with the memory of a first call that is not timed.

    From the second turn on, a short call is also made once before it is timed: the others have emptied its caches.
    """
    memory = [call.peak_growth() if isinstance(call, Aside) else peak_growth(call, device) for call in calls]
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, seconds, strict=True):
            if taken and taken[-1] < SHORT:
                call()
            taken.append(seconds_of(call, device))
    return [Measured(tuple(taken), peak) for taken, peak in zip(seconds, memory, strict=True)]


def seconds_of(call: Call, device: torch.device) -> float:
    """Wall-clock seconds of one call, including the work it queued on the device."""
    _wait_for(device)
    began = time.perf_counter()
    call()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
