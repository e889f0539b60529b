"""A description of the machine."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch

from atbptt.system import available_cores

ROOT = Path(__file__).parents[1]


def machine(device: torch.device, speed: float) -> dict[str, str]:
    """Machine, software and date, by name.

    Arguments:
        speed: multiply-adds per second of a matrix product on `device`.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    computing = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "CPU": cpu_model(),
        "cores": str(available_cores()),
        "memory": f"{memory / 1e9:.1f} GB",
        "device": f"{computing}, {torch.get_num_threads()} CPU thread",
        "matrix speed": f"{2 * speed / 1e9:.1f} GFLOP/s, float32",
        "software": f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
    }


def cpu_model() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the checkout, and whether files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return f"{head}, with changes" if _git("status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
