"""Where a run computes, and the process-wide settings of torch that a run needs."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from atbptt.errors import ConfigError, require
from atbptt.system import LockedError, Signals, StoppedError, available_cores, hold

LEASE_SECONDS = 1.0  # between attempts to lease a GPU


def check_device(kind: str, threads: int = 1) -> None:
    """Raise a `ConfigError` if this machine lacks what `device.type` and `device.threads` ask for."""
    cores = available_cores()
    require(threads <= cores, "device.threads", threads, f"must not exceed this machine's cores (={cores})")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device.type", "(=cuda) needs a CUDA GPU, and torch sees none here; choose auto or cpu")


def on_gpu(kind: str) -> bool:
    """Whether a run with this `device.type` computes on a GPU of this machine."""
    return kind != "cpu" and torch.cuda.is_available()


def parallel_jobs(kind: str, jobs_per_gpu: int, threads: int) -> int:
    """How many jobs run at once, of `device.type` kind: `jobs_per_gpu` on each GPU, or `threads` CPU cores for each."""
    if on_gpu(kind):
        return torch.cuda.device_count() * jobs_per_gpu
    return max(available_cores() // threads, 1)


@contextmanager
def leased_device(
    kind: str, jobs_per_gpu: int, signals: Signals, waiting: Callable[[], object] = lambda: None
) -> Iterator[torch.device]:
    """The device to run on. A GPU is leased by a file lock: other runs of this user on this machine do not get it.

    With 1 of `jobs_per_gpu`, the GPU is not shared even with runs that allow it. If other runs hold all GPUs, it calls
    `waiting` every second until one is free, or a signal ends the run (StoppedError).
    """
    check_device(kind)
    if not on_gpu(kind):
        yield torch.device("cpu")
        return
    folder = lease_folder()
    folder.mkdir(exist_ok=True)
    # UUIDs are the same in every process, whatever CUDA_VISIBLE_DEVICES shows it.
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    while True:
        for slot in range(jobs_per_gpu):  # every GPU once before any of them twice
            for index, name in enumerate(names):
                with ExitStack() as lease:
                    try:
                        lease.enter_context(hold(folder / name, shared=jobs_per_gpu > 1, patience=0))
                        lease.enter_context(hold(folder / f"{name}.{slot}", patience=0))
                    except LockedError:
                        continue
                    yield torch.device("cuda", index)
                    return
        if signals.ending:
            raise StoppedError(f"{signals.ending.name} while it waited for a GPU")
        waiting()
        time.sleep(LEASE_SECONDS)


def lease_folder() -> Path:
    """The folder of lock files, the same for all processes of a user on a machine: independent of TMPDIR."""
    shared = Path("/dev/shm")
    return (shared if os.access(shared, os.W_OK) else Path("/tmp")) / f"atbptt-gpus-{os.getuid()}"


def configure_torch(threads: int) -> None:
    """Set the process-wide options of torch, anew for each run of a process."""
    torch.set_num_threads(threads)  # decides the order of sums, and so the last bits of a result
    torch.set_flush_denormal(True)  # vanishing adjoints become subnormal, which slows a CPU down tenfold
    _keep_freed_memory()
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next window instead of returning it to the system.

    Clearing a window's logits anew would take a quarter of the training time at V = 10,000, H = 200.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)  # returns 0 on failure
    # glibc before 2.35 accepts at most 2**25. The trim threshold alone would make it slower.
    if mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25):
        mallopt(trim_threshold, 2**31 - 1)
