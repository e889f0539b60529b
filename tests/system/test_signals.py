from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from atbptt.system.signals import ENDING, STORING, LauncherSignals, LeftRunningError, listening


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


def test_a_signal_is_obeyed_between_two_steps_and_not_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with LauncherSignals("jobs stay") as signals:
        signals.obey()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(LeftRunningError, match=r"^ended by SIGTERM: jobs stay$"):
            signals.obey()
        signals.forget()
        signals.obey()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signals.sleep(60)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_closed_terminal_leaves_the_jobs_and_nohup_keeps_going() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        with LauncherSignals("") as signals:
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(LeftRunningError):
                signals.obey()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with LauncherSignals("") as signals:
            signal.raise_signal(signal.SIGHUP)
            signals.obey()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_sleep_ends_when_a_signal_comes() -> None:
    with LauncherSignals("") as signals:
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        began = time.monotonic()
        with pytest.raises(LeftRunningError):
            signals.sleep(600)
        assert time.monotonic() - began < 60
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_child_is_spared_a_terminals_interrupt() -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); signal.raise_signal(signal.SIGINT)"
    signals = LauncherSignals("")
    with signals.kept_from_children():
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGINT
