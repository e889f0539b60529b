import time
from typing import Any

import pytest
import torch

from atbptt.training.clock import ComputeClock


def test_on_a_cpu_it_is_processor_time_and_not_that_of_waiting() -> None:
    clock = ComputeClock(torch.device("cpu"))
    for _ in range(2):
        with clock.running():
            time.sleep(0.05)
            began = time.process_time()
            while time.process_time() - began < 0.03:
                pass
        while time.process_time() - began < 0.06:  # not measured
            pass
    assert 0.06 <= clock.spent() < 0.09
    assert clock.spent() == 0


def test_on_a_gpu_it_is_the_time_between_its_events_and_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are recorded on the stream of the run's GPU, which need not be the process's current one."""
    recorded: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            assert stream == "stream of cuda:1"
            recorded.append(self)

        def elapsed_time(self, ended: Any) -> float:
            return 2.0 * (recorded.index(ended) - recorded.index(self)) + 10 * recorded.index(self)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("waits"))
    clock = ComputeClock(torch.device("cuda", 1))
    for _ in range(2):
        with clock.running():
            pass
    assert clock.spent() == pytest.approx((2.0 + 2.0 + 20.0) / 1000)
    assert clock.spent() == 0
