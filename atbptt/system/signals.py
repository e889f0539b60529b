"""Signals to a run: noted at once, obeyed where the run can be continued from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

# kill, Ctrl-C, a closed terminal, a scheduler's end of the job: store a checkpoint and end.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A scheduler's warning, or a person who wants one: store a checkpoint and go on.
STORING = (signal.SIGUSR1, signal.SIGUSR2)


class StoppedError(RuntimeError):
    """The run was told to end, and has stored a checkpoint."""


class LeftRunningError(RuntimeError):
    """The process that launched runs ends and they go on, as those that a cluster's scheduler runs."""


class Signals:
    """The signals received by the process since it began to listen.

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
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Within, these handlers take signals; see `handle`."""
    before = handle(handlers)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def handle(handlers: Mapping[signal.Signals, Handler]) -> dict[signal.Signals, Any]:
    """Have these handlers take signals from now on; the ones before, of those that changed.

    Python delivers signals to the main thread alone; in any other they do what they did before. One that is ignored,
    as by `nohup` or in a shell's background jobs, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = {number: new for number, new in handlers.items() if signal.getsignal(number) is not signal.SIG_IGN}
    return {number: signal.signal(number, new) for number, new in heeded.items()}


@contextmanager
def listening() -> Iterator[Signals]:
    """Within, signals do not end the process but are noted, but for those that `handle` leaves alone."""
    signals = Signals()
    with handled(dict.fromkeys((*ENDING, *STORING), signals.note)):
        yield signals


def listen(signals: Signals) -> None:
    """Have signals noted from now on, as in `listening`."""
    handle(dict.fromkeys((*ENDING, *STORING), signals.note))
