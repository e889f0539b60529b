import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atbptt.errors import ConfigError
from atbptt.system.signals import Signals, StoppedError
from atbptt.training import devices
from atbptt.training.devices import check_device, configure_torch, leased_device, parallel_jobs

TINIEST = 1e-310  # a subnormal double
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MORE = CORES + 1
Show = Callable[[Sequence[str]], None]


def lease(kind: str = "cuda", jobs_per_gpu: int = 1, signals: Any = None) -> AbstractContextManager[torch.device]:
    return leased_device(kind, jobs_per_gpu, signals or Signals())


def ended() -> Signals:
    """Of a process that a signal ends, which does not wait."""
    signals = Signals()
    signals.note(signal.SIGTERM)
    return signals


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Show:
    """`show(uuids)` lets torch see these GPUs; there are no leases yet."""
    monkeypatch.setattr(devices, "lease_folder", lambda: tmp_path)

    def see(uuids: Sequence[str]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: len(uuids) > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index]))

    return see


@pytest.fixture
def no_gpu(show: Show) -> None:
    show([])


@pytest.fixture
def two_gpus(show: Show) -> None:
    show(["GPU-0", "GPU-1"])


@pytest.fixture
def torch_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what is global to the process."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("no_gpu")
def test_cuda_without_a_gpu_is_refused() -> None:
    message = r"^device.type \(=cuda\) needs a CUDA GPU, .* choose auto or cpu$"
    with pytest.raises(ConfigError, match=message):
        check_device("cuda")
    with pytest.raises(ConfigError, match=message), lease():
        pass


@pytest.mark.parametrize(("gpus", "kind"), [(0, "auto"), (0, "cpu"), (MORE, "cpu"), (MORE, "auto"), (MORE, "cuda")])
def test_as_many_runs_as_gpus_or_as_cores(gpus: int, kind: str, show: Show) -> None:
    show([f"GPU-{number}" for number in range(gpus)])
    check_device(kind)
    with lease(kind) as device:
        on_gpus = device.type == "cuda"
    assert on_gpus == (gpus > 0 and kind != "cpu")
    assert parallel_jobs(kind, 1, 1) == (MORE if on_gpus else CORES)
    assert parallel_jobs(kind, 3, 1) == (3 * MORE if on_gpus else CORES)
    assert parallel_jobs(kind, 1, CORES) == parallel_jobs(kind, 1, CORES + 1) == (MORE if on_gpus else 1)


@pytest.mark.usefixtures("two_gpus")
def test_each_run_gets_a_gpu_of_its_own_and_waits_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    with ExitStack() as runs:
        leases = [runs.enter_context(lease()) for _ in range(2)]
        assert leases == [torch.device("cuda", 0), torch.device("cuda", 1)]
        signals = Signals()

        def end_the_second_run(_: float) -> None:
            looks.append("waits")
            if len(looks) == 2:
                signals.note(signal.SIGTERM)

        monkeypatch.setattr(time, "sleep", end_the_second_run)
        beats: list[str] = []
        waits = leased_device("cuda", 1, signals, lambda: beats.append("beat"))
        with pytest.raises(StoppedError, match=r"^SIGTERM while it waited for a GPU$"), waits:
            pass
    assert len(looks) == len(beats) == 2
    with pytest.raises(RuntimeError, match="diverged"), lease():
        raise RuntimeError("diverged")
    with lease() as device:  # free again
        assert device == torch.device("cuda", 0)


@pytest.mark.usefixtures("two_gpus")
def test_runs_that_share_gpus_fill_each_once_before_any_twice() -> None:
    """One that wants a GPU of its own gets none that others share, nor they its."""
    with ExitStack() as runs:
        leases = [runs.enter_context(lease(jobs_per_gpu=2)) for _ in range(4)]
        assert [device.index for device in leases] == [0, 1, 0, 1]
        with pytest.raises(StoppedError), lease(jobs_per_gpu=2, signals=ended()):
            pass
    with lease(jobs_per_gpu=2), lease(jobs_per_gpu=2), pytest.raises(StoppedError), lease(signals=ended()):
        pass
    with lease(), lease(jobs_per_gpu=2) as device:
        assert device == torch.device("cuda", 1)


@pytest.mark.usefixtures("two_gpus")
def test_processes_that_are_shown_other_gpus_do_not_take_the_same_one(show: Show) -> None:
    """By CUDA_VISIBLE_DEVICES or a scheduler the second GPU is the first, and only, one of the other process."""
    with lease():
        show(["GPU-1"])
        with lease() as device:
            assert device == torch.device("cuda", 0)
            show(["GPU-0", "GPU-1"])
            with pytest.raises(StoppedError), lease(signals=ended()):
                pass


def test_leases_do_not_depend_on_the_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    before = devices.lease_folder()
    monkeypatch.setattr("tempfile.tempdir", "/of/this/job")
    assert devices.lease_folder() == before


@pytest.mark.usefixtures("no_gpu", "torch_settings")
def test_a_run_has_its_threads_and_flushes_subnormal_numbers() -> None:
    can_flush = torch.set_flush_denormal(False)
    assert (torch.tensor([TINIEST], dtype=torch.float64) * 1).item() == TINIEST
    for threads in (2, 1):  # a second run in the same process
        configure_torch(threads)
        assert torch.get_num_threads() == threads
    assert not can_flush or (torch.tensor([TINIEST], dtype=torch.float64) * 1).item() == 0


@pytest.mark.usefixtures("two_gpus", "torch_settings")
def test_on_a_gpu_algorithms_are_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []  # torch's own function would import its compiler
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *mode, **options: calls.append((mode, options)))
    configure_torch(1)
    assert calls == [((True,), {"warn_only": True})]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.usefixtures("no_gpu", "torch_settings")
@pytest.mark.parametrize(
    ("largest", "calls"),
    [
        (2**40, [(-3, 2**30), (-1, 2**31 - 1)]),
        (2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]),
        (0, [(-3, 2**30), (-3, 2**25)]),
    ],
)
def test_freed_memory_is_kept_where_libc_can(monkeypatch: pytest.MonkeyPatch, largest: int, calls: list[Any]) -> None:
    found: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:  # an old one refuses a large threshold
        found.append((option, value))
        return int(option != -3 or value <= largest)

    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    configure_torch(1)
    assert found == calls
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())  # another C library
    configure_torch(1)
