"""Commands in this process, as a terminal sees them: a case is a command line, its exit code and words of its answer.

A new process for each of the cases would take minutes.
"""

import logging
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from analysis.__main__ import main as analyse
from atbptt.errors import UNPRINTABLE
from atbptt.sweeps.command import main as launch
from atbptt.system import ENDING, resources
from atbptt.system.signals import STORING
from tests.conftest import ROOT, TINY
from tests.helpers.projects import Project
from tests.helpers.refusing import FREE, MODULES, MOST

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Answer(NamedTuple):
    """What a command printed, without colours, and its exit code."""

    code: int
    out: str
    err: str

    def check(self, code: int, *words: str) -> None:
        """The code, the words in what was printed, no traceback, and nothing that a terminal would obey."""
        text = self.out + self.err
        assert self.code == code, text
        for word in words:
            assert word in text
        assert "Traceback" not in text
        assert not UNPRINTABLE.search(text), ascii(text)
        if code:
            assert len(self.err) < MOST


Command = Callable[..., Answer]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the commands of the test run, and whose modules they can import."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def launched(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`launched(*arguments)`: what `python launch.py` answers in `here`."""
    handlers = {number: signal.getsignal(number) for number in (*ENDING, *STORING)}
    shown, level, modules = warnings.showwarning, logging.root.level, {*sys.modules}
    monkeypatch.chdir(here)

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["launch.py", *arguments])
        code = launch(arguments, ROOT / "conf", lambda: None)
        return Answer(code, *(COLOURS.sub("", text) for text in capsys.readouterr()))

    yield run
    warnings.showwarning = shown
    # With hydra/launcher=basic a run is in this process, for which Hydra silences all loggers.
    logging.root.setLevel(level)
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
    for name in {*sys.modules} - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(here)):
            del sys.modules[name]
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def analysed(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`analysed(*arguments)`: what `python -m analysis` answers in `here`."""
    monkeypatch.chdir(here)

    def run(*arguments: str) -> Answer:
        code = analyse(list(arguments))
        return Answer(code, *(COLOURS.sub("", text) for text in capsys.readouterr()))

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a sweep of two small runs."""
    top = tmp_path_factory.mktemp("made")
    arguments = ["-m", *TINY, "init=0,1", "name=demo", "epochs=1"]
    command = [sys.executable, str(ROOT / "launch.py"), *arguments]
    subprocess.run(command, cwd=top, check=True, capture_output=True, timeout=300)
    return top / "outputs"


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same on any machine."""
    monkeypatch.setattr(resources, "free_memory", lambda: FREE)
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def users(project: Project) -> Project:
    project.write(**MODULES)
    return project
