"""What signals tell a run: noted at once, obeyed where the run can be continued from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# kill, Ctrl-C, a closed terminal, a scheduler's end of the job: store a checkpoint and end.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A scheduler's warning, or a person who wants one: store a checkpoint and go on.
STORING = (signal.SIGUSR1, signal.SIGUSR2)


class StoppedError(RuntimeError):
    """The run was told to end, and has stored a checkpoint."""


class LeftRunningError(RuntimeError):
    """The process that launched runs ends and they go on, as those that a cluster's scheduler runs."""


class Told:
    """What the process has been told since it began to listen.

    Attributes:
        ending: the signal that says end, or None.
        storing: whether a checkpoint is asked for; whoever stores one takes it back.
    """

    def __init__(self) -> None:
        self.ending: signal.Signals | None = None
        self.storing = False

    def note(self, number: int, _: FrameType | None = None) -> None:
        """Take note of a signal: a handler for `signal.signal`."""
        if number in ENDING:
            self.ending = self.ending or signal.Signals(number)
        else:
            self.storing = True


@contextmanager
def listening() -> Iterator[Told]:
    """Within, signals do not end the process but are noted.

    Python delivers signals to the main thread alone; in any other they do what they did before. One that is ignored,
    as Ctrl-C is in a shell's background jobs, stays so.
    """
    told = Told()
    before = listen(told)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(told: Told) -> dict[int, Any]:
    """Have signals noted from now on, as in `listening`; the handlers that they had, for those that changed."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [number for number in (*ENDING, *STORING) if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, told.note) for number in heeded}
