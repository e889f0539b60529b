"""Times of several ways to do the same, measured in turn."""

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


@dataclass(frozen=True)
class Measured:
    """What repeats of one call took.

    Attributes:
        seconds: of each repeat.
        memory_bytes: growth of the peak memory in one call; None where it was not measured.
    """

    seconds: tuple[float, ...]
    memory_bytes: int | None = None

    @property
    def median(self) -> float:
        """Median seconds of a repeat."""
        return statistics.median(self.seconds)

    def per(self, count: float) -> Measured:
        """The same per one of `count` equal parts of a call; the memory is that of the whole call."""
        return replace(self, seconds=tuple(seconds / count for seconds in self.seconds))


def interleaved(calls: Sequence[Call], repeats: int, device: torch.device) -> list[Measured]:
    """Time each call `repeats` times, in turn: what slows the machine for a while slows all of them.

    The first call of each is not timed: it warms up, and tells the memory. From the second turn on a call that is
    not timed goes before that of a short one, since the others leave nothing of it in cache.
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
    """Wall-clock seconds of one call, with all that it gave the device to do."""
    _wait_for(device)
    began = time.perf_counter()
    call()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
