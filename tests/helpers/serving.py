"""A server of files that answers well or badly, as a test decides."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"<html>Log in to the network</html>"

Answer = Callable[["Handler"], None]


def send(status: int, body: bytes, length: int | None = None) -> Answer:
    """Answers with a body of which `length` bytes were announced."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


serve = send(200, CONTENT)
cut = send(200, CONTENT[: len(CONTENT) // 2], len(CONTENT))
other = send(200, OTHER)


def silent(handler: Handler) -> None:
    handler.server.closing.wait(10)


class Server(ThreadingHTTPServer):
    """Gives the `answers` in turn, the last one again and again; `requested` has the path of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = [serve]
        self.requested: list[str] = []
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that ended


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requested.append(self.path)
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of the library)
        pass


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
