"""Commands that need more packages than the library does, where these are not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OURS = ("atbptt", "analysis")


@contextmanager
def needed_by(command: str) -> Iterator[None]:
    """Within, a package that is missing ends the process with a message of what to install, and exit code 1.

    Arguments:
        command: as a person types it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        needs = 'needs the packages of experiments: pip install "atbptt[experiments]"'
        sys.exit(f"error: {command} {needs} ({error.name} is missing)")
