"""Signals to the launching process: noted at once, obeyed between two steps."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType

from atbptt.system import ENDING, LeftRunningError, handled

TICK_SECONDS = 0.2


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
