"""Signals to a run, or to a process that launches runs: noted at once, acted on where nothing is lost."""

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
    """A signal ended the run, which has stored a checkpoint."""


class LeftRunningError(RuntimeError):
    """The process that launched runs ends while they go on, as in a cluster's queue."""


class Signals:
    """The signals received by the process since it began to listen."""

    def __init__(self) -> None:
        self.ending: signal.Signals | None = None  # the first signal to end
        self.count = 0  # of signals to end
        self.storing = False  # whether a checkpoint is asked for; set it back when one is stored

    def note(self, number: int, _: FrameType | None = None) -> None:
        """Note a signal: a handler for `signal.signal`."""
        if number in ENDING:
            self.ending = self.ending or signal.Signals(number)
            self.count += 1
        else:
            self.storing = True


@contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    before = handle(handlers)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def handle(handlers: Mapping[signal.Signals, Handler]) -> dict[signal.Signals, Any]:
    """Set signal handlers, except of ignored signals, as under `nohup`; the previous handlers of those that changed.

    Does nothing outside of the main thread, which alone receives signals in Python.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = {number: new for number, new in handlers.items() if signal.getsignal(number) is not signal.SIG_IGN}
    return {number: signal.signal(number, new) for number, new in heeded.items()}


@contextmanager
def listening() -> Iterator[Signals]:
    """Within, note signals to end or to store a checkpoint instead of obeying them."""
    signals = Signals()
    with handled(dict.fromkeys((*ENDING, *STORING), signals.note)):
        yield signals


def listen(signals: Signals) -> None:
    """Note signals from now on, as in `listening`."""
    handle(dict.fromkeys((*ENDING, *STORING), signals.note))
