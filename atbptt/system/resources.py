"""What this process may use: CPU cores, and memory, so that what needs more is refused before it takes it."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from atbptt.errors import require

PROCESSES, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Files of a control group: its limit, and what it uses; what begins the lines of memory.stat with what can be freed.
FILES = ("memory.max", "memory.current", "")
FILES_OF_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def available_cores() -> int:
    """Cores that this process may use, by affinity and by the limits of a container."""
    import joblib  # a tenth of a second, which --help need not wait for

    return int(joblib.cpu_count())


def require_memory(name: str, value: Any, needed: int, what: str = "") -> None:
    """Raise a `ConfigError` if a value needs more bytes of memory than are free; `what` tells with what else."""
    lack = lack_of_memory(needed)
    require(not lack, name, value, f"{what} {lack}".lstrip())


def lack_of_memory(needed: int) -> str:
    """`needs about 1.6 TB of memory, and 20 GB are free`, or an empty text if so many bytes are free."""
    free = free_memory()
    return "" if needed <= free else f"needs about {as_size(needed)} of memory, and {as_size(free)} are free"


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, within its control groups and `ulimit -v`."""
    return max(0, min([_of_machine(), *_of_groups(), *_of_process()]))


def as_size(count: int) -> str:
    """Bytes for a person to read: 1.6 TB."""
    power = min((len(str(count)) - 1) // 3, len(UNITS) - 1)
    number = count / 1000**power
    return f"{number:.1f} {UNITS[power]}" if power and number < 10 else f"{number:.0f} {UNITS[power]}"


def _of_machine() -> int:
    try:
        return 1024 * _numbers(PROCESSES / "meminfo")["MemAvailable"]
    except (OSError, KeyError):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups() -> Iterator[int]:
    """What each of the process's control groups leaves it, as in a container or a job of Slurm."""
    try:
        lines = (PROCESSES / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, files = GROUPS, FILES
        elif "memory" in kinds.split(","):
            root, files = GROUPS / "memory", FILES_OF_VERSION_1
        else:
            continue
        inner = root / path.lstrip("/")  # within a container there is only the root
        for folder in (inner, *(above for above in inner.parents if above.is_relative_to(root))):
            with suppress(OSError, ValueError, KeyError):  # no such file, or `max`: no limit
                limit, used = (int((folder / name).read_text()) for name in files[:2])
                cached = _numbers(folder / "memory.stat")
                yield limit - used + cached[f"{files[2]}inactive_file"] + cached.get(f"{files[2]}active_file", 0)


def _of_process() -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with suppress(OSError):
            pages = int((PROCESSES / "self" / "statm").read_text().split()[0])
            yield limit - pages * os.sysconf("SC_PAGE_SIZE")


def _numbers(file: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number a line, as `MemAvailable:  21300000 kB`."""
    rows = (line.split() for line in file.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
