from __future__ import annotations

import signal
import threading

import pytest

from atbptt.system.signals import ENDING, STORING, listening


def test_signals_are_noted_and_end_nothing() -> None:
    with listening() as signals:
        assert signals.ending is None
        for number in STORING:
            signals.storing = False
            signal.raise_signal(number)
            assert signals.storing
        assert signals.ending is None
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert signals.ending == signal.SIGTERM  # the first


@pytest.mark.parametrize("number", [*ENDING, *STORING])
def test_what_a_signal_did_before_it_does_again(number: signal.Signals) -> None:
    came = []
    before = signal.signal(number, lambda *_: came.append(number))
    try:
        with listening():
            signal.raise_signal(number)
            assert came == []
        signal.raise_signal(number)
        assert came == [number]
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening() as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals.ending is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def listen() -> None:
        with listening() as signals:
            found.append((signals.ending, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [(None, before)]
