from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atbptt.datasets.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fetch", "wikitext-2"],
            "data set (=wikitext-2) must be one of ptb, wikitext2, book_order, all; did you mean",
        ),
        (["fetch", "ptb", "--from", "no"], "from (=no) must be a folder with copies; there is none\n"),
        (["fetch", "ptb", "--to", "taken"], "to (=taken) cannot be written: "),
        (["fetch"], "the following arguments are required: NAME; see python -m atbptt.datasets fetch --help\n"),
        (["ftch", "ptb"], "argument COMMAND: invalid choice: 'ftch' (choose from "),
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
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


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
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr.startswith("error: 3 of 3 files are not in place\n")
