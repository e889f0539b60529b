from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from atbptt.datasets import fetching
from atbptt.datasets.__main__ import main
from atbptt.datasets.fetching import FetchError, checksum_of, fetch, verify
from atbptt.datasets.sources import Source
from atbptt.errors import ConfigError

CONTENT = bytes(range(256)) * 400  # 102,400 bytes: a half and a quarter are whole pieces
HALF = len(CONTENT) // 2
OTHER = b"<html>Log in to the network</html>"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
GIT_BLOB = f"git-blob:{hashlib.sha1(b'blob 102400' + bytes(1) + CONTENT).hexdigest()}"

# What a server may do with a request, given the first byte that it asks for.
Answer = Callable[[BaseHTTPRequestHandler, int], None]


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: object) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def send_range(handler: BaseHTTPRequestHandler, start: int, body: bytes) -> None:
    """The whole rest is announced, whatever of it is sent."""
    length = len(CONTENT) - start
    if start == 0:
        send(handler, 200, body, Content_Length=length)
    else:
        told = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(handler, 206, body, Content_Length=length, Content_Range=told)


def serve(handler: BaseHTTPRequestHandler, start: int) -> None:
    send_range(handler, start, CONTENT[start:])


def cut(handler: BaseHTTPRequestHandler, start: int) -> None:
    send_range(handler, start, CONTENT[start : start + (len(CONTENT) - start) // 2])


def cut_at_half(handler: BaseHTTPRequestHandler, start: int) -> None:
    send_range(handler, start, CONTENT[start:HALF])


def cut_without_length(handler: BaseHTTPRequestHandler, _: int) -> None:
    send(handler, 200, CONTENT[:HALF])


def cut_with_the_length_of_the_half(handler: BaseHTTPRequestHandler, _: int) -> None:
    send(handler, 200, CONTENT[:HALF], Content_Length=HALF)


def half_of_the_range(handler: BaseHTTPRequestHandler, start: int) -> None:
    """Legal: less than was asked for, and it says so; no HTTP library sees a cut connection in it."""
    end = start + (len(CONTENT) - start) // 2
    told = f"bytes {start}-{end - 1}/{len(CONTENT)}"
    send(handler, 206, CONTENT[start:end], Content_Length=end - start, Content_Range=told)


def half_of_the_range_without_the_total(handler: BaseHTTPRequestHandler, start: int) -> None:
    end = start + (len(CONTENT) - start) // 2
    told = f"bytes {start}-{len(CONTENT) - 1}/*"
    send(handler, 206, CONTENT[start:end], Content_Range=told)


def ignore_range(handler: BaseHTTPRequestHandler, _: int) -> None:
    send(handler, 200, CONTENT, Content_Length=len(CONTENT))


def wrong_range(handler: BaseHTTPRequestHandler, start: int) -> None:
    told = f"bytes {start + 1}-{len(CONTENT) - 1}/{len(CONTENT)}"
    send(handler, 206, CONTENT[start + 1 :], Content_Range=told)


def range_without_its_place(handler: BaseHTTPRequestHandler, start: int) -> None:
    send(handler, 206, CONTENT[start:], Content_Length=len(CONTENT) - start)


def compressed(handler: BaseHTTPRequestHandler, _: int) -> None:
    """Although it was told not to."""
    body = gzip.compress(CONTENT)
    send(handler, 200, body, Content_Length=len(body), Content_Encoding="gzip")


def status(code: int) -> Answer:
    return lambda handler, _: send(handler, code, b"", Content_Length=0)


def other(handler: BaseHTTPRequestHandler, _: int) -> None:
    send(handler, 200, OTHER, Content_Length=len(OTHER))


def stall(handler: BaseHTTPRequestHandler, start: int) -> None:
    cut_at_half(handler, start)
    handler.server.closing.wait(10)  # type: ignore[attr-defined]


def silent(handler: BaseHTTPRequestHandler, _: int) -> None:
    handler.server.closing.wait(10)  # type: ignore[attr-defined]


class Server(ThreadingHTTPServer):
    """Answers the requests by `answers` in turn, the last one again and again; remembers what they asked for.

    Attributes:
        ranges: the Range header of each request, in their order.
        watched: paths; `seen` has whether any of them was there, at each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = [serve]
        self.ranges: list[str | None] = []
        self.watched: list[Path] = []
        self.seen: list[bool] = []
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that ended


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        server.seen.append(any(os.path.lexists(path) for path in server.watched))
        assert self.headers["Accept-Encoding"] == "identity"  # a range of anything else is not one of the file
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        answer(self, int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of the library)
        pass


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", (2.0, 5.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server from which `ptb` is one file with a SHA-256, and `wikitext2` one with a git blob id."""
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


def files(folder: Path) -> list[str]:
    """All names below it but the lock's."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != fetching.LOCK)


def lines(name: str, to: Path, local: Path | None = None) -> list[list[str]]:
    """What a fetch tells, a list of words for each file, whether or not all could be had."""
    out = io.StringIO()
    with contextlib.suppress(FetchError):
        fetch(name, to, local, Console(file=out))
    return [line.split() for line in out.getvalue().splitlines()]


def failure(name: str, to: Path, local: Path | None = None) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(name, to, local, Console(file=io.StringIO()))
    return str(caught.value)


def test_a_file_matches_either_kind_of_checksum(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello\n")
    # As `printf 'hello\n' | sha256sum` and `| git hash-object --stdin` have it.
    sha256 = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    blob = "git-blob:ce013625030ba8dba906f756967f9e9ca394464a"
    assert checksum_of(tmp_path / "file", "sha256") == sha256
    assert checksum_of(tmp_path / "file", "git-blob") == blob
    verify(tmp_path / "file", sha256)
    verify(tmp_path / "file", blob)
    (tmp_path / "file").write_bytes(b"hullo\n")
    for checksum in (sha256, blob):
        with pytest.raises(fetching.ChecksumError, match=rf"^holds {checksum[:6]}.*:[0-9a-f]+, expected {checksum}$"):
            verify(tmp_path / "file", checksum)


def test_all_are_downloaded_and_then_left_alone(server: Server, tmp_path: Path) -> None:
    paths = [tmp_path / "ptb" / "one.txt", tmp_path / "wikitext-2" / "two.txt"]
    assert lines("all", tmp_path) == [["fetched", str(path), "102.4", "kB"] for path in paths]
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert files(tmp_path) == ["one.txt", "two.txt"]
    os.chmod(paths[0], 0o400)
    assert lines("all", tmp_path) == [["there", str(path), "102.4", "kB"] for path in paths]
    assert server.ranges == [None, None]


def test_a_download_can_be_read_by_whom_the_user_lets(one: Path) -> None:
    fetch("ptb", one.parents[1])
    (one.parent / "mine").touch()
    assert one.stat().st_mode == (one.parent / "mine").stat().st_mode  # not a temporary file's


@pytest.mark.parametrize("name", ["ptb", "wikitext2"])
def test_a_cut_download_is_continued(name: str, server: Server, tmp_path: Path) -> None:
    server.answers = [cut, cut, serve]
    server.watched = [tmp_path / "ptb" / "one.txt", tmp_path / "wikitext-2" / "two.txt"]
    fetch(name, tmp_path)
    assert server.ranges == [None, "bytes=51200-", "bytes=76800-"]
    assert server.seen == [False, False, False]
    (path,) = (path for path in server.watched if path.exists())
    assert path.read_bytes() == CONTENT
    assert files(tmp_path) == [path.name]


def test_cut_for_good_leaves_what_the_next_call_continues(server: Server, one: Path) -> None:
    server.answers = [cut_at_half]
    message = failure("ptb", one.parents[1])
    assert "reason    broke off after 51,200 of 102,400 bytes" in message
    assert len(server.ranges) == fetching.ATTEMPTS
    assert files(one.parents[1]) == [".one.txt.part"]
    server.answers = [serve]
    server.ranges.clear()
    fetch("ptb", one.parents[1])
    assert server.ranges == ["bytes=51200-"]
    assert one.read_bytes() == CONTENT
    assert files(one.parents[1]) == ["one.txt"]


def test_a_server_that_compresses_is_understood(server: Server, one: Path) -> None:
    server.answers = [compressed]
    fetch("ptb", one.parents[1])
    assert one.read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [half_of_the_range, half_of_the_range_without_the_total])
def test_a_part_of_what_was_asked_for_is_continued_too(answer: Answer, server: Server, one: Path) -> None:
    server.answers = [cut, answer, serve]
    fetch("ptb", one.parents[1])
    assert server.ranges == [None, "bytes=51200-", "bytes=76800-"]
    assert one.read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [cut_without_length, cut_with_the_length_of_the_half])
def test_a_cut_that_only_the_checksum_shows_starts_over(answer: Answer, server: Server, one: Path) -> None:
    server.answers = [answer, serve]
    fetch("ptb", one.parents[1])
    assert server.ranges == [None, None]
    assert server.seen == [False, False]
    assert one.read_bytes() == CONTENT


def test_a_server_that_continues_nothing_sends_all_again(server: Server, one: Path) -> None:
    server.answers = [cut, ignore_range]
    fetch("ptb", one.parents[1])
    assert server.ranges == [None, "bytes=51200-"]
    assert one.read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [status(416), wrong_range])
def test_what_cannot_be_continued_starts_over(answer: Answer, server: Server, one: Path) -> None:
    server.answers = [cut, answer, serve]
    fetch("ptb", one.parents[1])
    assert server.ranges == [None, "bytes=51200-", None]
    assert one.read_bytes() == CONTENT


def test_a_server_that_continues_elsewhere_is_told(server: Server, one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    server.answers = [cut, wrong_range]
    assert "the server continued at byte 51,201 instead of 51,200\n" in failure("ptb", one.parents[1])
    server.answers = [wrong_range]
    assert "the server continued at byte 1 instead of 0\n" in failure("ptb", one.parents[1])


@pytest.mark.parametrize("answer", [status(503), status(429), range_without_its_place])
def test_a_server_out_of_order_is_asked_again_and_the_part_stays(answer: Answer, server: Server, one: Path) -> None:
    server.answers = [cut, answer, serve]
    fetch("ptb", one.parents[1])
    assert server.ranges == [None, "bytes=51200-", "bytes=51200-"]
    assert one.read_bytes() == CONTENT


def test_a_damaged_part_is_not_continued_for_ever(server: Server, one: Path) -> None:
    one.parent.mkdir(parents=True)
    (one.parent / ".one.txt.part").write_bytes(b"x" * 1000)
    fetch("ptb", one.parents[1])
    assert server.ranges == ["bytes=1000-", None]
    assert one.read_bytes() == CONTENT


@pytest.mark.parametrize(("name", "expected"), [("ptb", SHA256), ("wikitext2", GIT_BLOB)])
def test_wrong_content_leaves_nothing(name: str, expected: str, server: Server, tmp_path: Path) -> None:
    server.answers = [other]
    message = failure(name, tmp_path)
    assert files(tmp_path) == []
    kind = expected.partition(":")[0]
    assert f"reason    the download holds {kind}:" in message
    assert f", expected {expected}\n" in message


def test_not_found_is_final(server: Server, one: Path) -> None:
    server.answers = [status(404)]
    assert "reason    the server answered 404 Not Found\n" in failure("ptb", one.parents[1])
    assert len(server.ranges) == 1
    assert files(one.parents[1]) == []


@pytest.mark.parametrize(("answer", "reason"), [(stall, "broke off after 51,200 of 102,400"), (silent, "no answer")])
def test_a_stalled_server_is_given_up(
    answer: Answer, reason: str, server: Server, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", (2.0, 0.1))
    server.answers = [answer]
    began = time.monotonic()
    message = failure("ptb", one.parents[1])
    assert time.monotonic() - began < 3
    assert f"reason    {reason}" in message
    assert "timed out\n" in message
    assert not one.exists()


@pytest.mark.usefixtures("server")
def test_without_a_network_every_file_is_told_with_address_place_and_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    sources = {
        name: Source(source.folder, f"http://{host}/", source.checksums) for name, source in fetching.SOURCES.items()
    }
    monkeypatch.setattr(fetching, "SOURCES", sources)
    waits: list[float] = []
    monkeypatch.setattr(fetching.time, "sleep", waits.append)
    assert failure("all", tmp_path) == "\n".join(
        [
            "2 of 2 files are not in place",
            "",
            f"{tmp_path}/ptb/one.txt",
            f"  reason    no answer from {host}: Connection refused",
            f"  address   http://{host}/one.txt",
            f"  checksum  {SHA256}",
            "",
            f"{tmp_path}/wikitext-2/two.txt",
            f"  reason    no answer from {host}: Connection refused",
            f"  address   http://{host}/two.txt",
            f"  checksum  {GIT_BLOB}",
            "",
            "By hand: save what is at the address under the name above it; `sha256sum FILE` shows the sha256, "
            "`git hash-object --no-filters FILE` shows the git-blob.",
            "From copies: --from DIR takes the same from DIR or DIR/ptb or DIR/wikitext-2, and verifies it.",
        ]
    )
    assert len(waits) == fetching.ATTEMPTS - 1  # for one file: the other does not wait for the same silence
    assert files(tmp_path) == []


def test_a_connection_that_takes_too_long_is_not_tried_again(
    server: Server, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def get(url: str, **_: object) -> None:
        tried.append(url)
        raise fetching.requests.ConnectTimeout("timed out")

    monkeypatch.setattr(fetching.requests, "get", get)
    assert "no answer from 127.0.0.1" in failure("all", one.parents[1])
    assert tried == [f"{server.address}a/one.txt"]


@pytest.mark.parametrize("local", [False, True])
def test_another_file_under_the_final_name_is_left_alone(local: bool, server: Server, one: Path) -> None:
    one.parent.mkdir(parents=True)
    one.write_bytes(b"mine")
    copies = one.parents[2] / "copies"
    copies.mkdir()
    (copies / "one.txt").write_bytes(CONTENT)
    message = failure("all", one.parents[1], copies if local else None)
    found = f"sha256:{hashlib.sha256(b'mine').hexdigest()}"
    assert str(one) in message
    assert f"the file there holds {found}, expected {SHA256}; it is left alone: move it away and fetch again" in message
    assert one.read_bytes() == b"mine"
    assert server.seen == ([] if local else [True])  # of the other file's request


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_what_is_no_file_is_left_alone_too(kind: str, server: Server, one: Path) -> None:
    one.parent.mkdir(parents=True)
    if kind == "folder":
        one.mkdir()
    else:
        one.symlink_to("nowhere")
    assert ("IsADirectoryError" if kind == "folder" else "FileNotFoundError") in failure("ptb", one.parents[1])
    assert os.path.lexists(one)
    assert server.ranges == []


@pytest.mark.parametrize("layout", [".", "ptb"])
def test_copies_in_either_layout(layout: str, server: Server, one: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies" / layout
    copies.mkdir(parents=True)
    (copies / "one.txt").write_bytes(CONTENT)
    os.chmod(copies / "one.txt", 0o400)
    one.parent.mkdir(parents=True)
    (one.parent / ".one.txt.part").write_bytes(CONTENT[:HALF])  # of a download that broke off
    assert lines("ptb", one.parents[1], tmp_path / "copies") == [["copied", str(one), "102.4", "kB"]]
    assert one.read_bytes() == CONTENT
    assert files(one.parents[1]) == ["one.txt"]
    assert server.ranges == []


def test_of_two_copies_the_right_one_is_taken(one: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    (copies / "ptb").mkdir(parents=True)
    (copies / "ptb" / "one.txt").write_bytes(OTHER)
    (copies / "one.txt").write_bytes(CONTENT)
    fetch("ptb", one.parents[1], copies)
    assert one.read_bytes() == CONTENT


def test_a_missing_and_a_wrong_copy_are_told_and_the_rest_is_copied(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checksums = dict.fromkeys(("missing.txt", "wrong.txt", "right.txt"), SHA256)
    monkeypatch.setitem(fetching.SOURCES, "ptb", Source("ptb", server.address, checksums))
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "wrong.txt").write_bytes(OTHER)
    (copies / "right.txt").write_bytes(CONTENT)
    message = failure("ptb", tmp_path / "data", copies)
    assert message.startswith("2 of 3 files are not in place\n")
    assert f"reason    neither {copies}/ptb/missing.txt nor {copies}/missing.txt is there\n" in message
    assert f"reason    {copies}/wrong.txt holds sha256:{hashlib.sha256(OTHER).hexdigest()}, expected" in message
    assert files(tmp_path / "data") == ["right.txt"]
    assert server.ranges == []


def test_a_full_disk_is_a_reason(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching.os, "fsync", full)
    assert "reason    OSError: [Errno 28] No space left on device\n" in failure("ptb", one.parents[1])
    assert files(one.parents[1]) == [".one.txt.part"]


def test_two_at_once_leave_a_right_file(server: Server, one: Path) -> None:
    # Locks on a file are those of an open file, in two threads as in two processes.
    both = threading.Barrier(2)
    told: list[str] = []

    def slow(handler: BaseHTTPRequestHandler, start: int) -> None:
        time.sleep(0.3)  # the other comes meanwhile
        serve(handler, start)

    def work() -> None:
        both.wait()
        told.extend(line[0] for line in lines("ptb", one.parents[1]))

    server.answers = [slow]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["fetched", "there", "waiting"]
    assert server.ranges == [None]
    assert one.read_bytes() == CONTENT
    assert files(one.parents[1]) == ["one.txt"]


def test_pooch_itself_says_nothing(server: Server, one: Path) -> None:
    logger = fetching.pooch.get_logger()
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    fetch("all", one.parents[1])
    logger.removeHandler(handler)
    assert handler.stream.getvalue() == ""
    assert len(server.ranges) == 2


def test_a_terminal_shows_a_bar_and_keeps_the_lines(server: Server, one: Path) -> None:
    out = io.StringIO()
    server.answers = [cut, serve]
    fetch("ptb", one.parents[1], console=Console(file=out, force_terminal=True, width=100))
    shown = out.getvalue()
    assert shown.index("one.txt") < shown.index("bytes") < shown.index("fetched")  # the bar, then the line


def test_the_published_checksums_are_those_of_the_reference_data(shared: Path, tmp_path: Path) -> None:
    copies = shared / "data"
    absent = [
        tmp_path / source.folder / file
        for source in fetching.SOURCES.values()
        for file in source.checksums
        if not (copies / source.folder / file).exists()
    ]
    told = {Path(path): state for state, path, *_ in lines("all", tmp_path, copies)}
    assert [path for path, state in told.items() if state != "copied"] == absent
    assert len(told) == 10


def test_every_address_is_pinned_to_a_commit() -> None:
    for source in fetching.SOURCES.values():
        assert source.address.startswith("https://raw.githubusercontent.com/")
        assert source.address.endswith("/")
        assert len(source.address.split("/")[5]) == 40
        for checksum in source.checksums.values():
            kind, digest = checksum.split(":")
            assert len(digest) == {"sha256": 64, "git-blob": 40}[kind]


def test_command_exit_codes_and_streams(server: Server, one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fetch", "ptb", "--to", str(one.parents[1])]
    server.answers = [status(404), serve]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == f"failed   {one}  the server answered 404 Not Found\n"
    assert err.startswith("error: 1 of 1 files is not in place\n")
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["fetched", str(one), "102.4", "kB"]
    assert err == ""


def test_command_takes_copies(server: Server, one: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(CONTENT)
    assert main(["fetch", "ptb", "--to", str(one.parents[1]), "--from", str(tmp_path)]) == 0
    assert server.ranges == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fetch", "wikitext-2"],
            "data set (=wikitext-2) must be one of ptb, wikitext2, book_order, all; did you mean",
        ),
        (["fetch", "ptb", "--from", "no"], "from (=no) must be a folder with copies; there is none\n"),
        (["fetch", "ptb", "--to", "taken"], "to (=taken) cannot be written: "),
        (["fetch"], "the following arguments are required: NAME\nusage: python -m atbptt.datasets fetch"),
        (["fetch", "ptb", "--to"], "argument --to: expected one argument\n"),
        (["ftch", "ptb"], "argument COMMAND: invalid choice: 'ftch' (choose from "),
        ([], "the following arguments are required: COMMAND\n"),
    ],
)
def test_bad_arguments_are_a_message_and_exit_code_1(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert files(tmp_path) == ["taken"]


def test_the_function_refuses_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data set \(=penn\) must be one of"):
        fetch("penn", tmp_path)


def test_an_interrupted_download_is_continued_by_the_next_call(
    server: Server, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = one.parent / ".one.txt.part"

    def interrupt(handler: BaseHTTPRequestHandler, start: int) -> None:
        cut_at_half(handler, start)
        deadline = time.monotonic() + 5
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C
        handler.server.closing.wait(10)  # type: ignore[attr-defined]

    server.answers = [interrupt, serve]
    arguments = ["fetch", "ptb", "--to", str(one.parents[1])]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        assert main(arguments) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "interrupted: the same command continues where it stopped\n"
    assert files(one.parents[1]) == [".one.txt.part"]
    kept = part.stat().st_size
    assert 0 < kept <= HALF
    assert main(arguments) == 0
    assert server.ranges == [None, f"bytes={kept}-"]
    assert one.read_bytes() == CONTENT


def test_help_names_the_data_sets_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fetch", "--help"])
    out = capsys.readouterr().out
    for word in ("ptb, wikitext2, book_order or all", "--to DIR", "--from DIR", "(default: data)"):
        assert word in out


def test_as_a_command(root: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "atbptt.datasets", "fetch", "ptb", "--from", tmp_path, "--to", tmp_path / "data"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr.startswith("error: 3 of 3 files are not in place\n")
    assert "Traceback" not in result.stderr
