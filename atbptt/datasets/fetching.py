"""The published data sets, fetched from where they are published or from local copies.

Each file is verified, and whole under its final name or not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pooch
import requests
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from atbptt.datasets.sources import SOURCES
from atbptt.errors import described, require, require_choice
from atbptt.system import check_writable, write_atomically

ALL = "all"

ATTEMPTS = 3  # at a file in one call; each continues where the one before broke off
WAIT_SECONDS = 1.0  # before the second attempt; twice as long before the third
TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; without a byte
PIECE_BYTES = 1024  # few, for a connection that breaks loses the piece it was at
LOCK = ".fetching"
SHOWN_BY = {"sha256": "sha256sum", "git-blob": "git hash-object --no-filters"}  # a checksum, by its kind
STYLES = {"fetched": "green", "copied": "green", "there": "dim", "waiting": "dim", "failed": "red"}


@dataclass(frozen=True)
class Item:
    """One file: its final path, its address, its checksum."""

    path: Path
    address: str
    checksum: str

    @property
    def part(self) -> Path:
        """What has come of it so far."""
        return self.path.with_name(f".{self.path.name}.part")


class UnavailableError(RuntimeError):
    """A file cannot be had; `str(error)` is the reason in one line."""


class BrokenError(UnavailableError):
    """This attempt at it went wrong; the next may do better."""


class UnreachableError(BrokenError):
    """Its server gave no answer at all."""


class ChecksumError(BrokenError):
    """It is not the published one; `str(error)` is what it holds and what was expected."""


class FetchError(RuntimeError):
    """Some files are not in place; `str(error)` tells of each why, where it is published, and its checksum."""

    def __init__(self, problems: Sequence[tuple[Item, str]], total: int) -> None:
        lines = [f"{len(problems)} of {total} files {'is' if len(problems) == 1 else 'are'} not in place"]
        for item, reason in problems:
            lines += ["", str(item.path), f"  reason    {reason}", f"  address   {item.address}"]
            lines += [f"  checksum  {item.checksum}"]
        kinds = {item.checksum.partition(":")[0] for item, _ in problems}
        shown = [f"`{SHOWN_BY[kind]} FILE` shows the {kind}" for kind in SHOWN_BY if kind in kinds]
        folders = dict.fromkeys(f"DIR/{item.path.parent.name}" for item, _ in problems)
        lines += ["", f"By hand: save what is at the address under the name above it; {', '.join(shown)}."]
        lines += [f"From copies: --from DIR takes the same from DIR or {' or '.join(folders)}, and verifies it."]
        super().__init__("\n".join(lines))


def fetch(name: str, to: Path, local: Path | None = None, console: Console | None = None) -> None:
    """Put the files of a data set below `to`, each of them verified; those that are there are left alone.

    A line a file says what became of it. A download that breaks is continued, by the next call if need be. Of
    processes that fetch the same files at once, one works and the others wait for it.

    Arguments:
        name: one of `SOURCES`, or `all`.
        to: the folder to which the data set's own folder belongs.
        local: take copies from here, `local/<folder>/<file>` or `local/<file>`, and nothing from the network.
        console: where the lines and, in a terminal, the progress bar go; standard output by default.

    Raises:
        ConfigError: no such data set; `to` cannot be written; `local` is no folder.
        FetchError: some files are not in place; the others are.
    """
    require_choice("data set", name, [*SOURCES, ALL])
    if local is not None:
        require(local.is_dir(), "from", str(local), "must be a folder with copies; there is none")
    items = [
        Item(to / source.folder / file, source.address + file, checksum)
        for key, source in SOURCES.items()
        if name in (key, ALL)
        for file, checksum in source.checksums.items()
    ]
    if not all(os.path.lexists(item.path) for item in items):  # else a folder that is read-only will do
        check_writable("to", to)
    console = console or Console()
    problems = []
    with _progress_bar(console) as progress:
        say = functools.partial(_print_state, progress.console, max(len(str(item.path)) for item in items))
        take = functools.partial(_copy, local) if local is not None else Downloads(progress).download
        for item in items:
            try:
                say(item, _place(item, take, say), decimal(item.path.stat().st_size))
                with contextlib.suppress(OSError):  # the folder may be read-only
                    item.part.unlink()  # of a download before the file came by another way
            except (UnavailableError, OSError) as error:
                reason = str(error) if isinstance(error, UnavailableError) else described(error)
                say(item, "failed", reason)
                problems.append((item, reason))
    if problems:
        raise FetchError(problems, len(items))


def _print_state(console: Console, width: int, item: Item, state: str, what: str) -> None:
    line = Text.assemble((f"{state:7}", STYLES[state]), f"  {item.path!s:{width}}  {what}")
    console.print(line, soft_wrap=True)


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def checksum_of(path: Path, kind: str) -> str:
    """`kind:digest` of a file: its SHA-256, or git's name for its content."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        algorithm, start = {"sha256": ("sha256", b""), "git-blob": ("sha1", b"blob %d\0" % size)}[kind]
        digest = hashlib.new(algorithm, start, usedforsecurity=False)
        return f"{kind}:{hashlib.file_digest(file, lambda: digest).hexdigest()}"


def verify(path: Path, checksum: str) -> None:
    """Raise a `ChecksumError` unless the file matches `sha256:...` or `git-blob:...`."""
    found = checksum_of(path, checksum.partition(":")[0])
    if found != checksum:
        raise ChecksumError(f"holds {found}, expected {checksum}")


def _place(item: Item, take: Callable[[Item], str], say: Callable[[Item, str, str], None]) -> str:
    """Take the file unless it is there; returns what was done."""
    if not os.path.lexists(item.path):
        item.path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(item.path.parent, lambda: say(item, "waiting", "another process is fetching here")):
            if not os.path.lexists(item.path):  # the other process may have been at it
                return take(item)
    try:
        verify(item.path, item.checksum)
    except ChecksumError as error:  # it may be the user's own
        raise UnavailableError(f"the file there {error}; it is left alone: move it away and fetch again") from error
    return "there"


@contextlib.contextmanager
def _lock(folder: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold the folder; the operating system frees the lock of a process that ended.

    The empty file stays: were it removed, a process that waits for it and one that makes it anew would both go on.
    """
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(local: Path, item: Item) -> str:
    copies = [local / item.path.parent.name / item.path.name, local / item.path.name]
    wrong = [UnavailableError(f"neither {copies[0]} nor {copies[1]} is there")]
    for copy in filter(os.path.isfile, copies):
        try:
            write_atomically(item.path, functools.partial(_copy_verified, copy, item.checksum))
            return "copied"
        except ChecksumError as error:
            wrong.append(UnavailableError(f"{copy} {error}"))
    raise wrong[-1]


def _copy_verified(copy: Path, checksum: str, file: IO[bytes]) -> None:
    with open(copy, "rb") as source:
        shutil.copyfileobj(source, file)
    file.flush()
    verify(Path(file.name), checksum)


class Downloads:
    """Downloads of one call, with a bar each.

    pooch makes the folder and a temporary file in it, has the file downloaded to that, checks its SHA-256 and
    moves it to its final name. The body itself goes to a part file, which outlives a broken connection.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.unreachable: dict[str, str] = {}  # the reason by host: not every file waits for the same silence
        pooch.get_logger().setLevel(logging.WARNING)  # its lines are ours

    def download(self, item: Item) -> str:
        """Download the file to its final path."""
        host = urlsplit(item.address).netloc
        if host in self.unreachable:
            raise UnavailableError(self.unreachable[host])
        # pooch knows no git-blob; what it gets is verified already.
        known = item.checksum if item.checksum.startswith("sha256:") else None
        download = functools.partial(self._fill, item)
        try:
            pooch.retrieve(item.address, known, item.path.name, item.path.parent.absolute(), downloader=download)
        except UnreachableError as error:
            self.unreachable[host] = str(error)
            raise
        return "fetched"

    def _fill(self, item: Item, url: str, output: str, _: object) -> None:
        """pooch's downloader."""
        begun = item.part.stat().st_size if item.part.exists() else 0
        task = self.progress.add_task(item.path.name, total=None, completed=begun)
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    proceed(url, item.part, lambda at, total: self.progress.update(task, completed=at, total=total))
                    _verify_part(item)
                    break
                except BrokenError as error:
                    # Where packets vanish a connection takes minutes to fail: once is enough.
                    if attempt == ATTEMPTS or isinstance(error.__cause__, requests.ConnectTimeout):
                        raise
                    self.progress.update(task, description=f"{item.path.name}, attempt {attempt + 1} of {ATTEMPTS}")
                    time.sleep(WAIT_SECONDS * attempt)
            os.replace(item.part, output)
        finally:
            self.progress.remove_task(task)


def _verify_part(item: Item) -> None:
    try:
        verify(item.part, item.checksum)
    except ChecksumError as error:
        item.part.unlink()  # there is nothing to continue
        raise ChecksumError(f"the download {error}") from error


def proceed(url: str, part: Path, show: Callable[[int, int | None], object]) -> None:
    """Append to `part` what it lacks of the content of `url`, and flush it to disk.

    Arguments:
        show: called with the bytes so far, and in all if the server tells.

    Raises:
        BrokenError: the connection broke off, or the server is out of order or could not continue: try again.
        UnavailableError: the server does not have it.
    """
    at = part.stat().st_size if part.exists() else 0
    # Compressed, the bytes would not be those of the file, nor the range.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={at}-"} if at else {})
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        raise UnreachableError(f"no answer from {urlsplit(url).netloc}: {_innermost(error)}") from error
    with response:
        if response.status_code == 416:  # the part is not the content's beginning, or is all of it
            part.unlink(missing_ok=True)
        begin, total = _body(response)
        if begin not in (0, at):
            part.unlink(missing_ok=True)
            raise BrokenError(f"the server continued at byte {begin:,} instead of {at:,}")
        at = begin  # 0 where a server does not continue
        of = f" of {total:,}" if total is not None else ""
        with open(part, "ab" if at else "wb") as file:
            try:
                for piece in response.iter_content(PIECE_BYTES):
                    file.write(piece)
                    at += len(piece)
                    show(at, total)
            except requests.RequestException as error:
                raise BrokenError(f"broke off after {at:,}{of} bytes: {_innermost(error)}") from error
            file.flush()
            os.fsync(file.fileno())
    if total is not None and at < total:  # not every version of the HTTP library minds
        raise BrokenError(f"broke off after {at:,}{of} bytes")


def _body(response: requests.Response) -> tuple[int, int | None]:
    """Where in the content the answer's body begins, and how long the content is, if the server says so."""
    headers = response.headers
    answer = f"the server answered {response.status_code} {response.reason}"
    if response.status_code == 200:
        length = headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    if response.status_code == 206:
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", ""))
        if span is None:
            raise BrokenError(f"{answer} without a valid Content-Range")
        return int(span[1]), int(span[2]) + 1 if span[3] == "*" else int(span[3])
    if response.status_code in (408, 416, 429) or response.status_code >= 500:
        raise BrokenError(answer)
    raise UnavailableError(answer)


def _innermost(error: BaseException) -> str:
    """What the system said, without the libraries' wrapping."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        causes = (getattr(error, "reason", None), error.__cause__, *error.args)
        inner = next((cause for cause in causes if isinstance(cause, BaseException)), None)
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
