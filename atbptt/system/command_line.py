"""What the command lines share: parsing, messages and exit codes, printing, missing packages."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from atbptt.errors import AnalysisError, ConfigError, complain, described, needs_extra
from atbptt.system.files import StorageError
from atbptt.system.signals import handle

OURS = ("atbptt", "analysis")
PROGRAM = "atbptt"
INTERRUPTED = 130  # exit code
IN_A_CLONE = {"launch": "python launch.py", "fetch": "python -m atbptt.datasets fetch"}


class UsageError(ValueError):
    """A command line that cannot be parsed."""


class Parser(argparse.ArgumentParser):
    """Raises a `UsageError` where argparse would exit with code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def run_command(command: Callable[[], object], *errors: type[Exception]) -> int:
    """Call `command` and return the exit code of the process.

    - 0: it returned.
    - 1: bad usage, input or settings, a file that cannot be read or written, or one of `errors`, after one line on
      stderr; without a message where nobody reads the output any more, as behind `| head`.
    - 130: Ctrl-C, after `interrupted` on stderr.
    """
    expected: tuple[type[Exception], ...] = (UsageError, ConfigError, AnalysisError, StorageError, *errors)
    open_standard_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        handle({signal.SIGINT: signal.default_int_handler})
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        let_go(sys.stdout)
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except expected as error:
        complain(f"error: {error}")
        return 1
    except OSError as error:
        complain(f"error: {described(error)}")
        return 1
    return 0


def end_process(code: int) -> NoReturn:
    """End the process; after Ctrl-C at once, since Python may report it once more."""
    for stream in (sys.stdout, sys.stderr):
        let_go(stream)
    if code == INTERRUPTED:
        os._exit(code)
    sys.exit(code)


def let_go(stream: TextIO) -> None:
    """Flush a stream; where that fails, all that it still gets goes nowhere, also when Python flushes it once more."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_standard_streams() -> None:
    """Open those that are closed, else the next file would get the number of one; have them take any text."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks


def program(command: str = "") -> str:
    """A command as the user of this process types it: `atbptt table`, or `python -m analysis table` in a clone."""
    if sys.argv[0] == PROGRAM:
        return f"{PROGRAM} {command}".rstrip()
    return IN_A_CLONE.get(command, f"python -m analysis {command}".rstrip())


@contextmanager
def needed_by(command: str) -> Iterator[None]:
    """End the process with exit code 1 if a package is missing inside, and say what to install for `command`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        sys.exit(f"error: {command} {needs_extra('experiments', error)}")
