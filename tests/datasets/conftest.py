"""Published data sets that are served from this machine, texts, and a cache of their own."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atbptt.datasets import SPLITS, fetching
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


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ATBPTT_CACHE", str(folder))
    return folder


TRAIN = "the cat sat\n\n  on the mat \n"
VALID = "the dog sat on it\n"
TEST = "the mat\nsat\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(train, valid, test)`: three files in a folder, or folders of documents, from dicts of them by name."""

    def make(train: object = TRAIN, valid: object = VALID, test: object = TEST, name: str = "text") -> Path:
        folder = tmp_path / name
        for split, content in zip(SPLITS, (train, valid, test), strict=True):
            named = content.items() if isinstance(content, dict) else [("", content)]
            for document, each in named:
                file = folder / (f"{split}/{document}" if document else f"{split}.txt")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(each if isinstance(each, bytes) else str(each).encode())
        return folder

    return make
