"""Published data sets that are served from this machine."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from atbptt.datasets import fetching
from atbptt.datasets.sources import Source
from tests.helpers.serving import SHA256, Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server of `ptb` and `wikitext2`, which have one file each."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)  # between attempts
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        sources = {
            "ptb": Source("ptb", f"{server.address}a/", {"one.txt": SHA256}),
            "wikitext2": Source("wikitext-2", f"{server.address}b/", {"two.txt": SHA256}),
        }
        monkeypatch.setattr(fetching, "SOURCES", sources)
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def one(server: Server, tmp_path: Path) -> Path:  # noqa: ARG001  (its data set is served)
    """Where the file of `ptb` goes."""
    return tmp_path / "data" / "ptb" / "one.txt"
