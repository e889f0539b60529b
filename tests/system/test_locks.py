import fcntl
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from atbptt.system.locks import LockedError, hold, is_held


def _hold(path: Path, fork: bool, held: Connection) -> None:
    with hold(path):
        child = os.fork() if fork else None
        if child != 0:
            held.send(child)
        time.sleep(60)


def test_a_lock_that_was_moved_away_is_not_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder moves a folder, and others that wait for the lock must not take the folder that comes instead."""
    path = tmp_path / "run" / "lock"
    path.parent.mkdir()
    lock = fcntl.flock

    def moving(descriptor: int, kind: int) -> None:
        path.parent.rename(tmp_path / "old")
        path.parent.mkdir()
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", moving)
    with pytest.raises(LockedError, match="has been moved by another process"), hold(path):
        pass


@pytest.mark.parametrize("fork", [False, True])
def test_a_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path, fork: bool) -> None:
    """Also if a child that it forked lives on."""
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    owner = context.Process(target=_hold, args=(path, fork, its))
    owner.start()
    child = ours.recv()
    try:
        assert is_held(path)
        began = time.monotonic()
        with pytest.raises(LockedError, match=f"^{path} is locked by another process$"), hold(path, patience=0.05):
            pass
        assert time.monotonic() - began >= 0.05
        owner.kill()
        owner.join()
        assert not is_held(path)
        with hold(path):
            assert is_held(path)
    finally:
        if child is not None:
            os.kill(child, signal.SIGKILL)


def test_is_held_does_not_keep_others_from_the_lock(tmp_path: Path) -> None:
    """However often it is called: `hold` tries for a moment."""
    path = tmp_path / "lock"
    looker = multiprocessing.get_context("fork").Process(target=_look, args=(path,))
    path.touch()
    looker.start()
    try:
        for _ in range(200):
            with hold(path):
                pass
    finally:
        looker.kill()
        looker.join()


def _look(path: Path) -> None:
    while True:
        is_held(path)


def test_shared_locks_go_together_and_not_with_others(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    assert not path.exists()
    with hold(path, shared=True), hold(path, shared=True), pytest.raises(LockedError), hold(path, patience=0):
        pass
    with hold(path), pytest.raises(LockedError), hold(path, shared=True, patience=0):
        pass
