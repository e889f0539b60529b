"""Where a result comes from: the sweep, the code's version, the packages, the machine."""

import functools
import os
import platform
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from atbptt.config import ConfigFile
from atbptt.system import available_cores

PACKAGE = Path(__file__).parents[1]
GIT_SECONDS = 10.0  # a repository on a slow disk must not hold up a run


@functools.cache
def code() -> dict[str, Any]:
    """Python, packages and the git commits of the package and the current folder; `dirty` if tracked files differ."""
    found = [each for each in map(_repository, (PACKAGE, Path.cwd())) if each]
    return {
        "repositories": list({each["path"]: each for each in found}.values()),
        "python": platform.python_version(),
        "packages": {part.name: part.version for part in sorted(distributions(), key=lambda part: part.name.lower())},
    }


def machine() -> dict[str, Any]:
    gpus = []  # only if torch uses them already: to ask it for them would take memory on each
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus,
        "cuda": None if torch is None else torch.version.cuda,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


@dataclass(frozen=True)
class Origin:
    """What started a run."""

    sweep: str | None = None  # name of the sweep's folder; None without a sweep
    code: dict[str, Any] = field(default_factory=code)  # of the process that launched it
    command: list[str] = field(default_factory=lambda: list(sys.argv))
    experiment_id: str | None = None  # as the sweep planned it; None takes that of the data as they are now
    config_files: list[ConfigFile] = field(default_factory=list)  # of --config-dir


def commits(found: dict[str, Any]) -> str:
    """The commits of a `code()` in a line: `a1b2c3d (dirty)`; `none` outside git."""
    hashes = [part["commit"][:10] + (" (dirty)" if part["dirty"] else "") for part in found.get("repositories", ())]
    return ", ".join(hashes) or "none"


def _repository(folder: Path) -> dict[str, Any] | None:
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = top and _git(folder, "rev-parse", "HEAD")
    # The package may be installed in an ignored folder of somebody's repository, which does not version it.
    if not commit or (folder == PACKAGE and not _git(folder, "ls-files", "__init__.py")):
        return None
    dirty = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"path": top, "commit": commit, "dirty": dirty != ""}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
