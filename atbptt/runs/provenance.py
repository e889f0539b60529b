"""Where a result comes from: the sweep, the code's version, the packages, the machine."""

import contextlib
import functools
import hashlib
import os
import platform
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import IO, Any

from atbptt.config import ConfigFile, installed
from atbptt.system import available_cores, read_file, write_atomically

PACKAGE = Path(__file__).parents[1]
UNTRACKED = 20  # files that are listed
GIT_SECONDS = 10.0  # a repository on a slow disk must not hold up a run
DIFF_BYTES = 1_000_000  # that are stored
# What a user's config of git may not change, so that `git apply` reads it.
DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "HEAD")

_diffs: dict[str, bytes] = {}  # what this process has found, by the name of its file


def code() -> dict[str, Any]:
    """Python, packages and the git commits of the package and the current folder.

    `dirty` if tracked files differ, or if this process has imported files that git does not track: `untracked`. Of
    tracked files `diff` names a file that has the differences, see `store_diffs`; None if there are none.
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
    found = {part.name: part.version for part in sorted(distributions(), key=lambda part: part.name.lower())}
    torch = sys.modules.get("torch")
    return found if torch is None else found | {"torch": str(torch.__version__)}  # with its build: +cu130


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
    diffs: Path | None = None  # folder with the files that `code` names; None if this process has found them
    rerun: bool = False  # whether the run begins anew if it has begun before the sweep


def commits(found: dict[str, Any]) -> str:
    """The commits of a `code()` in a line: `a1b2c3d (dirty, code-0f1e2d3c.diff)`; `none` outside git."""
    parts = []
    for part in found.get("repositories", ()):
        names = ", ".join(filter(None, ("dirty", part.get("diff"))))  # earlier versions stored no diff
        parts.append(part["commit"][:10] + (f" ({names})" if part["dirty"] else ""))
    return ", ".join(parts) or "none"


def store_diffs(found: dict[str, Any], folder: Path, source: Path | None = None) -> None:
    """Store the files that a `code()` names as `diff` (StorageError).

    Those of another process are in the folder `source`: they become links, so that 1,000 runs have one file.
    """
    for name in filter(None, (part.get("diff") for part in found.get("repositories", ()))):
        path, content = folder / name, _diffs.get(name)
        if path.exists():  # the name tells the content
            continue
        if source is not None:
            with contextlib.suppress(OSError):
                os.link(source / name, path)
                continue
            with contextlib.suppress(OSError):  # no links on this file system; or the sweep's folder is gone
                content = read_file(source / name)
        if content is not None:
            write_atomically(path, functools.partial(_write, content))


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


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
    diff = _diff(top) if differing else b""
    name = f"code-{hashlib.sha256(diff).hexdigest()[:8]}.diff" if diff else None
    if name is not None:
        _diffs[name] = diff
    return {"path": top, "commit": commit, "dirty": dirty, "untracked": untracked[:UNTRACKED], "diff": name}


def _diff(top: str) -> bytes:
    """What tracked files differ in from the commit, at most the first `DIFF_BYTES`; empty if git does not tell."""
    command = ["git", "--no-optional-locks", "-C", top, *DIFF]
    none = subprocess.DEVNULL
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=none, stderr=none) as process:
            assert process.stdout is not None
            slow = threading.Timer(GIT_SECONDS, process.kill)
            slow.start()
            content = process.stdout.read(DIFF_BYTES + 1)
            slow.cancel()
            if len(content) > DIFF_BYTES:
                process.kill()
                whole = content[: content.rindex(b"\n", 0, DIFF_BYTES) + 1]
                return whole + f"# cut off here: git diff gives more than {DIFF_BYTES:,} bytes\n".encode()
    except OSError:
        return b""
    return content if process.returncode == 0 else b""


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
