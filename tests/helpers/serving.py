"""A server of one file that answers as a test tells it, well or badly."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from atbptt.datasets import fetching

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
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(handler, 206, body, Content_Length=length, Content_Range=span)


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
    span = f"bytes {start}-{end - 1}/{len(CONTENT)}"
    send(handler, 206, CONTENT[start:end], Content_Length=end - start, Content_Range=span)


def half_of_the_range_without_the_total(handler: BaseHTTPRequestHandler, start: int) -> None:
    end = start + (len(CONTENT) - start) // 2
    span = f"bytes {start}-{len(CONTENT) - 1}/*"
    send(handler, 206, CONTENT[start:end], Content_Range=span)


def ignore_range(handler: BaseHTTPRequestHandler, _: int) -> None:
    send(handler, 200, CONTENT, Content_Length=len(CONTENT))


def wrong_range(handler: BaseHTTPRequestHandler, start: int) -> None:
    span = f"bytes {start + 1}-{len(CONTENT) - 1}/{len(CONTENT)}"
    send(handler, 206, CONTENT[start + 1 :], Content_Range=span)


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


def files(folder: Path) -> list[str]:
    """All names below it but the lock's."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != fetching.LOCK)
