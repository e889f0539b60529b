"""Downloads the published data sets and verifies them."""

import contextlib
import logging
import os
import shutil
from pathlib import Path

import pooch
import requests
from rich.progress import Progress

from atbptt.datasets.sources import SOURCES, Source
from atbptt.errors import described, require, require_choice
from atbptt.system import Console, check_writable, file_digest, replacing

ALL = "all"
RETRIES = 2
TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; between two pieces of the body


class FetchError(RuntimeError):
    """Some files could not be fetched; says why, a line a file."""


class _Download:
    """Downloads for pooch, and is the progress bar that pooch moves."""

    def __init__(self, progress: Progress) -> None:
        pooch.get_logger().setLevel(logging.WARNING)
        self.progress = progress
        self.task = progress.add_task("")
        self.total = 0  # bytes of the present file, set by pooch; 0 if unknown

    def __call__(self, url: str, output: str, _: object) -> None:
        os.unlink(output)  # only its owner may read pooch's temporary file; a new one follows the umask
        self.progress.reset(self.task, description=url.rpartition("/")[2])
        headers = {"Accept-Encoding": "identity"}  # else `total` is the size of the compressed file
        pooch.HTTPDownloader(progressbar=self, timeout=TIMEOUT_SECONDS, headers=headers)(url, output, None)

    def update(self, size: int) -> None:
        self.progress.update(self.task, total=self.total or None, advance=size)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        """Called by pooch after each file; the progress is shown until the last."""


def fetch(name: str, to: Path, local: Path | None = None) -> None:
    """Download the files of a data set into its folder in `to`, or copy them from `local`, and print a line a file.

    A file appears under its name only if its SHA-256 is right. Files that are already there are never overwritten.

    Raises:
        ConfigError: `name` is unknown, `to` cannot be written, or `local` is not a folder.
        FetchError: some files could not be fetched; without an answer from the server, the rest is not tried.
    """
    require_choice("data set", name, [*SOURCES, ALL])
    if local is not None:
        require(local.is_dir(), "from", str(local), "must be a folder with copies")
    sources = SOURCES.values() if name == ALL else [SOURCES[name]]
    files = {to / source.folder / file: source for source in sources for file in source.checksums}
    if not all(path.exists() for path in files):  # complete data may be in a read-only folder
        check_writable("to", to)
    console = Console()
    problems = []
    progress = Progress(console=console, transient=True)
    with progress if console.is_terminal else contextlib.nullcontext():
        download = _Download(progress)
        for path, source in files.items():
            try:
                state = _placed(path, source, local, download)
                console.out(f"{state:7}  {path}", highlight=False)
            except (OSError, ValueError) as error:  # pooch raises a ValueError for a wrong checksum
                problems.append(f"{path}: {error if isinstance(error, ValueError) else described(error)}")
                if isinstance(error, requests.ConnectionError | requests.Timeout):
                    break  # each of the others would wait as long
    if problems:
        raise FetchError("\n".join(problems))


def _placed(path: Path, source: Source, local: Path | None, download: _Download) -> str:
    checksum = source.checksums[path.name]
    if path.exists():
        _verify(path, checksum, "it is not overwritten: move it away and fetch again")
        return "there"
    if local is None:
        registry = pooch.create(path.parent, source.address, registry={path.name: checksum}, retry_if_failed=RETRIES)
        registry.fetch(path.name, downloader=download)
        return "fetched"
    copies = [local / source.folder / path.name, local / path.name]
    copy = next(filter(Path.is_file, copies), None)
    if copy is None:
        raise ValueError(f"there is neither {copies[0]} nor {copies[1]}")
    with replacing(path) as temporary:
        shutil.copyfile(copy, temporary)
        _verify(temporary, checksum, f"as copied from {copy}")
    return "copied"


def _verify(path: Path, checksum: str, hint: str) -> None:
    found = file_digest(path)
    if found != checksum:
        raise ValueError(f"its SHA-256 must be {checksum}, not {found}; {hint}")
