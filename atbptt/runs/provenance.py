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

from atbptt.config import ConfigFile, installed
from atbptt.system import available_cores

PACKAGE = Path(__file__).parents[1]
UNTRACKED = 20  # files that are listed
GIT_SECONDS = 10.0  # a repository on a slow disk must not hold up a run


def code() -> dict[str, Any]:
    """Python, packages and the git commits of the package and the current folder.

    `dirty` if tracked files differ, or if this process has imported files that git does not track: `untracked`.
    """
    files = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
    own = {file for file in files if isinstance(file, str) and os.path.isabs(file) and not installed(file)}
    return {
        "repositories": _repositories(frozenset(map(os.path.realpath, own))),
        "python": platform.python_version(),
        "packages": _packages(),
    }


@functools.cache
def _packages() -> dict[str, str]:
    return {part.name: part.version for part in sorted(distributions(), key=lambda part: part.name.lower())}


@functools.lru_cache(maxsize=8)  # a session imports more as it goes
def _repositories(imported: frozenset[str]) -> list[dict[str, Any]]:
    found = [each for each in (_repository(folder, imported) for folder in (PACKAGE, Path.cwd())) if each]
    return list({each["path"]: each for each in found}.values())


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
    experiment_id: str | None = None  # as the sweep planned it; None takes that of data and code as they are now
    hashes: dict[str, str] = field(default_factory=dict)  # of data and code when it was planned, see `Settings`
    config_files: list[ConfigFile] = field(default_factory=list)  # of --config-dir


def commits(found: dict[str, Any]) -> str:
    """The commits of a `code()` in a line: `a1b2c3d (dirty)`; `none` outside git."""
    hashes = [part["commit"][:10] + (" (dirty)" if part["dirty"] else "") for part in found.get("repositories", ())]
    return ", ".join(hashes) or "none"


def _repository(folder: Path, imported: frozenset[str]) -> dict[str, Any] | None:
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = top and _git(folder, "rev-parse", "HEAD")
    # The package may be installed in an ignored folder of somebody's repository, which does not version it.
    if not top or not commit or (folder == PACKAGE and not _git(folder, "ls-files", "__init__.py")):
        return None
    differing = _git(folder, "status", "--porcelain", "--untracked-files=no")
    names = [os.path.relpath(file, top) for file in sorted(imported) if file.startswith(f"{top}{os.sep}")]
    tracked = _git(Path(top), "--literal-pathspecs", "ls-files", "-z", "--recurse-submodules", "--", *names)
    untracked = [] if tracked is None else sorted({*names} - {*tracked.split("\0")})
    dirty = differing != "" or bool(untracked)
    return {"path": top, "commit": commit, "dirty": dirty, "untracked": untracked[:UNTRACKED]}


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
