import io
import re
import socket
from pathlib import Path

import pytest
from rich.console import Console

from atbptt.datasets import fetching
from atbptt.datasets.fetching import FetchError, fetch
from atbptt.datasets.sources import SOURCES, Source
from tests.helpers.serving import CONTENT, OTHER, SHA256, Answer, Server, cut, files, other, send, serve, silent


def failure(name: str, to: Path, local: Path | None = None) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(name, to, local)
    return str(caught.value)


def test_all_are_downloaded_once(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "ptb" / "one.txt", tmp_path / "wikitext-2" / "two.txt"]
    fetch("all", tmp_path)
    assert capfd.readouterr() == ("".join(f"fetched  {path}\n" for path in paths), "")  # pooch itself is silent
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert files(tmp_path) == ["one.txt", "two.txt"]
    (tmp_path / "mine").touch()
    assert paths[0].stat().st_mode == (tmp_path / "mine").stat().st_mode  # not a temporary file's
    fetch("all", tmp_path)
    assert capfd.readouterr().out == "".join(f"there    {path}\n" for path in paths)
    assert server.requested == ["/a/one.txt", "/b/two.txt"]


@pytest.mark.parametrize("answer", [cut, send(200, CONTENT[:100]), other, send(503, b"")])
def test_a_failed_download_is_tried_again(answer: Answer, server: Server, one: Path) -> None:
    server.answers = [answer, answer, serve]
    fetch("ptb", one.parents[1])
    assert one.read_bytes() == CONTENT
    assert files(one.parents[1]) == ["one.txt"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (send(404, b""), "HTTPError: 404 Client Error: Not Found for url: http.*/a/one.txt"),
        (cut, "ChunkedEncodingError: .*IncompleteRead.*"),
        (other, f"SHA256 hash of downloaded file .*expected {SHA256} but got .*"),
    ],
)
def test_a_download_that_fails_leaves_nothing(answer: Answer, reason: str, server: Server, one: Path) -> None:
    server.answers = [answer] * (1 + fetching.RETRIES) + [serve]
    assert re.fullmatch(f"{one}: {reason}", failure("all", one.parents[1]))
    assert files(one.parents[1]) == ["two.txt"]


def test_without_a_network_the_rest_is_not_tried(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    source = Source("ptb", address, {"one.txt": SHA256, "two.txt": SHA256})
    monkeypatch.setitem(fetching.SOURCES, "ptb", source)
    assert re.fullmatch(f"{one}: ConnectionError: .*/one.txt .*Connection refused.*", failure("all", one.parents[1]))


def test_a_server_that_is_silent_is_given_up(server: Server, one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", (2.0, 0.1))
    server.answers = [silent]
    assert re.fullmatch(f"{one}: ReadTimeout: .*", failure("all", one.parents[1]))
    assert server.requested == ["/a/one.txt"] * 3


@pytest.mark.parametrize("local", [False, True])
def test_another_file_under_the_final_name_is_kept(local: bool, server: Server, one: Path, tmp_path: Path) -> None:
    one.parent.mkdir(parents=True)
    one.write_bytes(b"mine")
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_bytes(CONTENT)
    message = failure("all", one.parents[1], tmp_path if local else None)
    rule = f"its SHA-256 must be {SHA256}, not [0-9a-f]{{64}}; it is not overwritten: move it away and fetch again"
    assert re.fullmatch(f"{one}: {rule}", message)
    assert one.read_bytes() == b"mine"
    assert files(one.parents[1]) == ["one.txt", "two.txt"]
    assert server.requested == ([] if local else ["/b/two.txt"])


@pytest.mark.parametrize("layout", [".", "ptb"])
def test_copies_in_either_layout(
    layout: str, server: Server, one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = tmp_path / "copies"
    (copies / layout).mkdir(parents=True)
    (copies / layout / "one.txt").write_bytes(CONTENT)
    fetch("ptb", one.parents[1], copies)
    assert capsys.readouterr().out == f"copied   {one}\n"
    assert one.read_bytes() == CONTENT
    assert server.requested == []


def test_a_missing_and_a_wrong_copy_are_reported(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("ptb", "", dict.fromkeys(("missing.txt", "wrong.txt", "one.txt"), SHA256))
    monkeypatch.setitem(fetching.SOURCES, "ptb", source)
    (tmp_path / "wrong.txt").write_bytes(OTHER)
    (tmp_path / "one.txt").write_bytes(CONTENT)
    missing, wrong = failure("ptb", one.parents[1], tmp_path).splitlines()
    assert missing.endswith(f": there is neither {tmp_path}/ptb/missing.txt nor {tmp_path}/missing.txt")
    assert wrong.startswith(f"{one.parent}/wrong.txt: its SHA-256 must be {SHA256}, not ")
    assert wrong.endswith(f"; as copied from {tmp_path}/wrong.txt")
    assert files(one.parents[1]) == ["one.txt"]


def test_a_terminal_shows_a_bar(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(fetching, "Console", lambda: Console(file=out, force_terminal=True, width=100))
    fetch("ptb", one.parents[1])
    assert all(shown in out.getvalue() for shown in ("one.txt", "100%", f"fetched  {one}"))


def test_the_published_checksums_are_those_of_the_reference_data(shared: Path, tmp_path: Path) -> None:
    message = failure("all", tmp_path, shared / "data")
    assert message.splitlines()[0].startswith(f"{tmp_path}/wikitext-2/train.txt: there is neither ")  # not in it
    assert len(message.splitlines()) == 1
    assert len(files(tmp_path)) == 9


def test_every_address_is_pinned_to_a_commit() -> None:
    for source in SOURCES.values():
        assert re.fullmatch(r"https://raw.githubusercontent.com/\w+/\w+/[0-9a-f]{40}/[\w/-]+/", source.address)
        assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in source.checksums.values())
