"""Peak memory of a call."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")  # of Linux
RESET_PEAK = "5"  # proc(5): sets the peak of the resident set to what is resident now


def peak_growth(call: Callable[[], object], device: torch.device) -> int | None:
    """Make one call and return the growth of the peak memory in bytes.

    On a GPU this is the memory allocated by torch, on Linux the resident set of the process, elsewhere None.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    _give_back_memory()
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:  # not Linux, or a container that forbids it
        call()
        return None
    before = resident_bytes("VmRSS")
    call()
    return max(0, resident_bytes("VmHWM") - before)


def resident_bytes(field: str) -> int:
    """The resident set of this process (`VmRSS`) or its peak (`VmHWM`)."""
    found = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(found.split()[1]) * 1024


def _give_back_memory() -> None:
    """Return free memory to the system, since a call that uses it would not show (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
