"""How long a device computes: on a CPU the processor time, on a GPU the time between events."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class ComputeClock:
    """The time that this process computes on a device.

    On a CPU it is the processor time of all threads, which other processes do not lengthen. On a GPU it is the time
    from when the GPU comes to the work to when it has done it, with the gaps in which it waits for more.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._spans: list[tuple[float | torch.cuda.Event, float | torch.cuda.Event]] = []  # not yet summed

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what is computed within."""
        began = self._now()
        yield
        self._spans.append((began, self._now()))

    def spent(self) -> float:
        """The seconds measured since the last call; on a GPU, to be called when it has finished the work."""
        spans, self._spans = self._spans, []
        return sum(_seconds(began, ended) for began, ended in spans)

    def _now(self) -> float | torch.cuda.Event:
        if self.device.type != "cuda":
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def _seconds(began: float | torch.cuda.Event, ended: float | torch.cuda.Event) -> float:
    if isinstance(began, float) and isinstance(ended, float):
        return ended - began
    return began.elapsed_time(ended) / 1000  # type: ignore[union-attr, arg-type]
