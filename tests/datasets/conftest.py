"""Published data sets that are served from this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from atbptt.datasets import fetching
from atbptt.datasets.sources import Source
from tests.helpers.serving import GIT_BLOB, SHA256, Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server from which `ptb` is one file with a SHA-256, and `wikitext2` one with a git blob id."""
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", (2.0, 5.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        sources = {
            "ptb": Source("ptb", f"{server.address}a/", {"one.txt": SHA256}),
            "wikitext2": Source("wikitext-2", f"{server.address}b/", {"two.txt": GIT_BLOB}),
        }
        monkeypatch.setattr(fetching, "SOURCES", sources)
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def one(server: Server, tmp_path: Path) -> Path:
    """Where the file of `ptb` goes; the server watches it."""
    path = tmp_path / "data" / "ptb" / "one.txt"
    server.watched.append(path)
    return path
