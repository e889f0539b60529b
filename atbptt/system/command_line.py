"""What the command lines share: parsing, messages and exit codes, printing, missing packages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from atbptt.errors import AnalysisError, ConfigError, described, needs_extra
from atbptt.system.files import StorageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

OURS = ("atbptt", "analysis")
PROGRAM = "atbptt"
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
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it exits
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except expected as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {described(error)}", file=sys.stderr)
        return 1
    return 0


def program(command: str = "") -> str:
    """A command as the user of this process types it: `atbptt table`, or `python -m analysis table` in a clone."""
    if sys.argv[0] == PROGRAM:
        return f"{PROGRAM} {command}".rstrip()
    return IN_A_CLONE.get(command, f"python -m analysis {command}".rstrip())


def rendered(console: Console, renderable: RenderableType) -> str:
    """What the console would print, without the blanks that fill a table's lines."""
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


@contextmanager
def needed_by(command: str) -> Iterator[None]:
    """End the process with exit code 1 if a package is missing inside, and say what to install for `command`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        sys.exit(f"error: {command} {needs_extra('experiments', error)}")
