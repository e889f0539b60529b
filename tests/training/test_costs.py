import math
import mmap
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from atbptt.training import costs
from atbptt.training.costs import Costs

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
MB = 1_000_000


def use(mb: int) -> None:
    """Have and give back memory of the system's, not what another test has left to malloc."""
    with mmap.mmap(-1, mb * MB) as area:
        area[:: mmap.PAGESIZE] = bytes(-(-mb * MB // mmap.PAGESIZE))


def test_the_peak_is_that_of_the_run_and_not_of_what_the_process_did_before() -> None:
    use(300)
    own = Costs()
    start = own.measured(CPU)["peak_memory_mb"]
    use(150)
    assert start + 140 < own.measured(CPU)["peak_memory_mb"] < start + 160
    assert Costs().measured(CPU)["peak_memory_mb"] < start + 100


def test_without_a_reset_the_memory_seen_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that forbids it; without /proc no memory is told."""
    status = tmp_path / "status"
    monkeypatch.setattr(costs, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(costs, "STATUS", status)
    own = Costs()
    assert set(own.measured(CPU)) == {"processor_seconds"}
    for resident in (1000, 3000, 2000):
        status.write_text(f"VmHWM:\t 9000000 kB\nVmRSS:\t {resident} kB\n")
        own.look()
    assert own.measured(CPU)["peak_memory_mb"] == 3000 * 1024 / MB


def test_processor_time_counts_work_and_no_waiting_and_goes_on_from_an_earlier_attempt() -> None:
    own = Costs()
    time.sleep(0.1)
    began = time.process_time()
    while time.process_time() - began < 0.05:
        pass
    assert 0.05 <= own.measured(CPU)["processor_seconds"] < 0.09
    own.go_on({"processor_seconds": 100.0, "peak_memory_mb": 1e6})
    assert own.measured(CPU) == {"processor_seconds": pytest.approx(100.05, abs=0.04), "peak_memory_mb": 1e6}
    own.go_on(None)
    found = own.measured(CPU)
    assert math.isnan(found["processor_seconds"])
    assert found["peak_memory_mb"] > 1


def test_the_memory_of_a_gpu_is_what_torch_allocated_in_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, reset = {GPU: 3 * MB}, Mock()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", peaks.__getitem__)
    own = Costs()
    assert [call.args for call in reset.call_args_list] == [(0,), (1,)]
    assert own.measured(GPU)["peak_gpu_memory_mb"] == 3
    own.go_on({"processor_seconds": 0.0, "peak_gpu_memory_mb": 7.0})
    assert own.measured(GPU)["peak_gpu_memory_mb"] == 7
    assert "peak_gpu_memory_mb" not in own.measured(CPU)
