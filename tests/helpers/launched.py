"""A command that is launched, as often as a test wants, and all processes that belong to it."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atbptt.runs import schema
from tests.conftest import ROOT

MARK = "ATBPTT_TEST"  # in the environment of a sweep's processes: no others are touched
STALL_SECONDS = 120.0  # without a step ahead, something hangs
LOOK_SECONDS = 0.05

LAUNCHER, SERVER, RUN, HELPER = "launching process", "fork server", "run", "other"


class HangingError(Exception):
    """What was waited for does not come."""


def parent_of(pid: int) -> int:
    """The process that started a process (OSError if it has ended)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Sweep:
    """`python launch.py -m` with these arguments in a folder, its runs stored in `out` there."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.command = [sys.executable, str(ROOT / "launch.py"), "-m", *arguments]
        if not any(argument.startswith("output_dir=") for argument in arguments):
            self.command.append("output_dir=out")
        self.mark = uuid.uuid4().hex
        self.environment = {**os.environ, **(environment or {}), MARK: self.mark}
        self.process: subprocess.Popen[bytes] | None = None
        self.launches = 0
        self._terminal = folder / f"terminal-{self.mark}.txt"
        self._printed = 0
        self._epochs: dict[Path, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._terminal.touch()

    def launch(self) -> subprocess.Popen[bytes]:
        """Begin the command anew."""
        self.launches += 1
        self._printed = len(self.terminal)
        with open(self._terminal, "ab") as terminal:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
                # As in a terminal, even where this runs in the background, which ignores Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return self.process

    def ended(self) -> int | None:
        """The exit code of the command, None as long as it runs."""
        assert self.process is not None
        return self.process.poll()

    def wait(self) -> int:
        """Wait for the end of the command; its exit code (HangingError)."""
        self.until(lambda: self.ended() is not None, "the command to end")
        code = self.ended()
        assert code is not None
        return code

    def run(self) -> int:
        """Launch the command and wait for its end; its exit code (HangingError)."""
        self.launch()
        return self.wait()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, no longer than `STALL_SECONDS` after the last step ahead (HangingError)."""
        deadline, epochs = time.monotonic() + STALL_SECONDS, self.epochs()
        while not condition():
            if self.epochs() > epochs:
                deadline, epochs = time.monotonic() + STALL_SECONDS, self.epochs()
            if time.monotonic() > deadline:
                raise HangingError(
                    f"waited in vain for {what}; there are {self.processes()}, terminal was {self.terminal}"
                )
            time.sleep(LOOK_SECONDS)

    @property
    def terminal(self) -> str:
        """All that the command has printed, on either stream, since its first launch."""
        return self._terminal.read_text(errors="replace")

    @property
    def printed(self) -> str:
        """What the last launch has printed, on either stream."""
        return self.terminal[self._printed :]

    def statuses(self) -> dict[Path, dict[str, Any]]:
        """What status.json says of each run that has one, by its directory."""
        found = {}
        for path in sorted(self.output.glob(f"[!.]*/*/{schema.STATUS}")):
            try:
                found[path.parent] = json.loads(path.read_text())
            except (FileNotFoundError, ValueError):  # a test may have damaged it
                continue
        return found

    def epochs(self) -> float:
        """Epochs of all runs together; it never goes back, though a killed run does."""
        for path, status in self.statuses().items():
            epoch = status.get("epoch")
            if isinstance(epoch, float):  # else training has not begun, or a test has damaged it
                self._epochs[path] = max(self._epochs.get(path, 0.0), epoch)
        return sum(self._epochs.values())

    def processes(self) -> dict[str, list[int]]:
        """The living processes of the command by kind, of earlier launches too."""
        marked: dict[int, tuple[int, bytes]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    marked[int(folder.name)] = parent_of(int(folder.name)), (folder / "cmdline").read_bytes()
            except OSError:  # it has ended, or is another user's
                continue
        servers = {pid for pid, (_, command) in marked.items() if b"forkserver" in command}
        # Of a run whose fork server is gone, its status file tells what it is.
        working = {status.get("pid") for status in self.statuses().values()} if servers else set()
        kinds: dict[str, list[int]] = {}
        for pid, (parent, _) in sorted(marked.items()):
            if self.process is not None and pid == self.process.pid:
                kind = LAUNCHER
            elif pid in servers:  # a forked process keeps the command line
                kind = RUN if parent in servers or pid in working else SERVER
            else:
                kind = HELPER
            kinds.setdefault(kind, []).append(pid)
        return kinds

    def training(self) -> dict[Path, dict[str, Any]]:
        """What status.json says of each run that a living process works on, by its directory."""
        alive = set(itertools.chain(*self.processes().values()))
        working = self.statuses().items()
        return {path: each for path, each in working if each["state"] == schema.RUNNING and each["pid"] in alive}

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
        """Send a process a signal, if it still is one of the command's; whether it was."""
        try:
            handle = os.pidfd_open(pid)  # from here on the number cannot come to mean another process
        except ProcessLookupError:
            return False
        try:
            if pid not in itertools.chain(*self.processes().values()):
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def clear(self) -> None:
        """Kill what is left of all launches."""
        while found := self.processes():
            for pid in itertools.chain(*found.values()):
                self.kill(pid)
            time.sleep(LOOK_SECONDS)
        if self.process is not None:
            self.process.wait()
