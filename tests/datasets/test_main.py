import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atbptt.datasets.__main__ import main
from tests.helpers.serving import CONTENT, Handler, Server, cut, files, send, serve


def test_command_exit_codes_and_streams(server: Server, one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fetch", "ptb", "--to", str(one.parents[1])]
    server.answers = [send(404, b"")]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {one}: HTTPError: 404 ")
    server.answers = [serve]
    assert main(arguments) == 0
    assert capsys.readouterr() == (f"fetched  {one}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "wikitext-2"], "data set (=wikitext-2) must be one of ptb, wikitext2, book_order, all; did"),
        (["fetch", "ptb", "--from", "no"], "from (=no) must be a folder with copies\n"),
        (["fetch", "ptb", "--to", "taken"], "to (=taken) cannot be written: "),
        (["fetch"], "the following arguments are required: NAME; see python -m atbptt.datasets fetch --help\n"),
        (["ftch", "ptb"], "argument COMMAND: invalid choice: 'ftch' (choose from "),
    ],
)
def test_bad_arguments_are_a_message_and_exit_code_1(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert files(tmp_path) == ["taken"]


def test_an_interrupted_download_leaves_nothing(server: Server, one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(handler: Handler) -> None:
        cut(handler)
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C
        handler.server.closing.wait(10)

    server.answers = [interrupt, serve]
    arguments = ["fetch", "ptb", "--to", str(one.parents[1])]
    assert main(arguments) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert files(one.parents[1]) == []
    assert main(arguments) == 0
    assert one.read_bytes() == CONTENT


def test_help_names_the_data_sets_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fetch", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for words in ("ptb, wikitext2, book_order or all", "--to DIR folder for ptb/, ", "(default: data)", "--from DIR"):
        assert words in out


def test_the_command(root: Path, tmp_path: Path) -> None:
    """As typed; without the files it says so and what to do."""
    command = [sys.executable, "-m", "atbptt.datasets", "fetch", "ptb", "--from", tmp_path, "--to", tmp_path / "data"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.match(r"error: .*/ptb.train.txt: there is neither ", result.stderr)
    assert len(result.stderr.splitlines()) == 3
