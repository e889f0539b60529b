from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from rich.console import Console

from atbptt.datasets import fetching
from atbptt.datasets.fetching import FetchError, checksum_of, fetch, verify
from atbptt.datasets.sources import Source
from atbptt.errors import ConfigError
from tests.helpers.serving import (
    CONTENT,
    GIT_BLOB,
    HALF,
    OTHER,
    SHA256,
    Answer,
    Server,
    compressed,
    cut,
    cut_at_half,
    cut_with_the_length_of_the_half,
    cut_without_length,
    files,
    half_of_the_range,
    half_of_the_range_without_the_total,
    ignore_range,
    other,
    range_without_its_place,
    serve,
    silent,
    stall,
    status,
    wrong_range,
)


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


def test_a_server_that_continues_elsewhere_is_reported(
    server: Server, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_without_a_network_every_file_is_reported_with_address_place_and_checksum(
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


def test_a_missing_and_a_wrong_copy_are_reported_and_the_rest_is_copied(
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
    states: list[str] = []

    def slow(handler: BaseHTTPRequestHandler, start: int) -> None:
        time.sleep(0.3)  # the other comes meanwhile
        serve(handler, start)

    def work() -> None:
        both.wait()
        states.extend(line[0] for line in lines("ptb", one.parents[1]))

    server.answers = [slow]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states) == ["fetched", "there", "waiting"]
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
    states = {Path(path): state for state, path, *_ in lines("all", tmp_path, copies)}
    assert [path for path, state in states.items() if state != "copied"] == absent
    assert len(states) == 10


def test_every_address_is_pinned_to_a_commit() -> None:
    for source in fetching.SOURCES.values():
        assert source.address.startswith("https://raw.githubusercontent.com/")
        assert source.address.endswith("/")
        assert len(source.address.split("/")[5]) == 40
        for checksum in source.checksums.values():
            kind, digest = checksum.split(":")
            assert len(digest) == {"sha256": 64, "git-blob": 40}[kind]


def test_the_function_refuses_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data set \(=penn\) must be one of"):
        fetch("penn", tmp_path)
