"""Where a run computes, and the process-wide settings of torch that a run needs."""

from __future__ import annotations

import ctypes
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import torch

from atbptt.errors import ConfigError, require


def check_device(kind: str, threads: int = 1) -> None:
    """Raise a `ConfigError` where `device.type` or `device.threads` asks for what this machine lacks."""
    cores = available_cores()
    require(threads <= cores, "device.threads", threads, f"must not exceed this machine's cores (={cores})")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device.type", "(=cuda) needs a CUDA GPU, and torch sees none here; choose auto or cpu")


def parallel_jobs(kind: str) -> int:
    """As many jobs at once as there are GPUs to compute on, or cores."""
    if kind != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count()
    return available_cores()


def available_cores() -> int:
    """Cores that this process may use, by affinity and by the limits of a container."""
    return int(joblib.cpu_count())


@contextmanager
def leased_device(kind: str) -> Iterator[torch.device]:
    """The device to run on; a GPU that no other run of this user holds, where one is free.

    A lease is a lock on a file, which the operating system takes back when its holder ends, however it ends.
    """
    check_device(kind)
    if kind == "cpu" or not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    folder = Path(tempfile.gettempdir()) / f"atbptt-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    count = torch.cuda.device_count()
    for index in range(count):
        with open(folder / str(index), "w") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield torch.device("cuda", index)
            return
    yield torch.device("cuda", os.getpid() % count)


def configure_torch(threads: int) -> None:
    """Set what is global to the process; a worker that runs several runs in turn needs it each time.

    Vanishing adjoints become subnormal numbers, which slow a CPU down tenfold: they are flushed to zero. The
    number of threads decides the order of sums, so that a run's bits depend on it.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _keep_freed_memory() -> None:
    """Have the C library reuse what a window frees for the next window, instead of giving it back to the system.

    A window's logits are tens of megabytes, which the system would clear anew each time: a quarter of the time
    of training at V = 10,000, H = 200.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)  # glibc's; 0 is its word for failure
    # Before glibc 2.35 no more than 2**25 is accepted; setting the other alone would be worse than nothing.
    if mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25):
        mallopt(trim_threshold, 2**31 - 1)
