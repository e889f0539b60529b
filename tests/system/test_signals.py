import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from atbptt.system.signals import STORING, listening


def test_signals_are_noted_and_end_nothing() -> None:
    with listening() as signals:
        for number in STORING:
            signals.storing = False
            signal.raise_signal(number)
            assert signals.storing
        assert (signals.ending, signals.count) == (None, 0)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (signals.ending, signals.count) == (signal.SIGTERM, 2)  # the first


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_handled_as_before_in_the_end_and_ignored_all_along_if_it_was(number: signal.Signals) -> None:
    came = []
    original = signal.signal(number, lambda *_: came.append(number))
    try:
        with listening():
            signal.raise_signal(number)
            assert came == []
        signal.raise_signal(number)
        assert came == [number]
        signal.signal(number, signal.SIG_IGN)
        with listening() as signals:
            signal.raise_signal(number)
            assert (signals.ending, signals.storing) == (None, False)
    finally:
        signal.signal(number, original)


def test_in_another_thread_nothing_changes() -> None:
    def listen() -> object:
        with listening():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        assert pool.submit(listen).result() == signal.getsignal(signal.SIGTERM)
