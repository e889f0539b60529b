"""What a run has cost so far: memory and processor time of its process."""

import math
import time
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")  # of Linux
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): the peak of the resident memory becomes what is resident now
MB = 1e6


class Costs:
    """The costs of this process from now on, added to those of the run's earlier attempts.

    The memory is what is resident, with Python and the libraries. A forked process begins with the peak of the process
    that it comes from, so that the peak is set back here; where the system forbids that, the largest memory seen by
    `look` counts.
    """

    def __init__(self) -> None:
        self._began = time.process_time()
        self._before: dict[str, float] = {"processor_seconds": 0.0}  # of earlier attempts
        self._peak = 0.0
        try:
            CLEAR_REFS.write_text(RESET_PEAK)
            self._field = "VmHWM:"
        except OSError:
            self._field = "VmRSS:"
        if torch.cuda.is_initialized():  # by an earlier run of this process
            for gpu in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(gpu)

    def go_on(self, saved: dict[str, float] | None) -> None:
        """Add to what `measured` gave in an earlier attempt; to unknown time if it is None, of an earlier version."""
        stored = {name: float(value) for name, value in (saved or {}).items()}
        self._before = {"processor_seconds": math.nan, **stored}

    def look(self) -> None:
        try:
            lines = STATUS.read_text().splitlines()
        except OSError:  # not Linux
            return
        found = (int(line.split()[1]) * 1024 / MB for line in lines if line.startswith(self._field))
        self._peak = max([self._peak, *found])

    def measured(self, device: torch.device) -> dict[str, float]:
        """The metrics so far; without a memory that the system does not tell."""
        self.look()
        peaks = {"peak_memory_mb": self._peak}
        if device.type == "cuda":
            peaks["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / MB
        known = {name: max(peak, self._before.get(name, 0.0)) for name, peak in peaks.items() if peak}
        spent = self._before["processor_seconds"] + time.process_time() - self._began
        return {"processor_seconds": spent, **known}
