"""Signals to a run or to a process that launches runs: noted at once, obeyed where nothing is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import Any

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

# kill, Ctrl-C, a closed terminal, a scheduler's end of the job: store a checkpoint and end.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A scheduler's warning, or a person who wants one: store a checkpoint and go on.
STORING = (signal.SIGUSR1, signal.SIGUSR2)
TICK_SECONDS = 0.2  # between looks for a signal in a sleep


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


class LauncherSignals:
    """Within, Ctrl-C and the end of a session end nothing by themselves, so that no job is submitted and forgotten.

    One that is ignored, as by `nohup`, stays so.

    Arguments:
        left: what to say of what goes on when the session ends.
    """

    def __init__(self, left: str) -> None:
        self.left = left
        self._came: signal.Signals | None = None
        self._handled = ExitStack()

    def __enter__(self) -> LauncherSignals:
        self._handled.enter_context(handled(dict.fromkeys(ENDING, self._note)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handled.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        self._came = signal.Signals(number)

    def forget(self) -> None:
        """Whatever came has been obeyed."""
        self._came = None

    def obey(self) -> None:
        """Raise what a signal asks for, if one came.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            LeftRunningError: the session ends: SIGTERM, or SIGHUP of a closed terminal.
        """
        if self._came == signal.SIGINT:
            raise KeyboardInterrupt
        if self._came is not None:
            raise LeftRunningError(f"ended by {self._came.name}: {self.left}")

    def sleep(self, seconds: float) -> None:
        """Sleep, but obey at once."""
        deadline = time.monotonic() + seconds
        self.obey()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))
            self.obey()

    @contextmanager
    def kept_from_children(self) -> Iterator[None]:
        """Within, processes that are started do not get a terminal's Ctrl-C: one of sbatch loses a submitted job."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
