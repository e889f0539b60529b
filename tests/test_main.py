"""The command `atbptt`: its commands, and what each is handed."""

import os
import re
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

import atbptt
from atbptt.__main__ import OTHERS, main
from tests.conftest import ROOT

COMMANDS = [*OTHERS, "table", "figures", "report", "status", "failures", "compact", "export", "probe"]


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `atbptt ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/atbptt", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_it_lists_its_commands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, *arguments) == 0
    listed = re.findall(r"^    ([a-z]+) +[A-Z]", capsys.readouterr().out, re.MULTILINE)
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--version"], 0, f"atbptt {atbptt.__version__}\n"),
        (["tabel"], 2, "atbptt: error: argument COMMAND: invalid choice: 'tabel' (choose from "),
        (["status", "nowhere"], 1, "error: nowhere"),
        (["fetch"], 1, "error: the following arguments are required: NAME; see atbptt fetch --help\n"),
        (["probe"], 1, "error: the following arguments are required: RUN; see atbptt probe --help\n"),
    ],
)
def test_exit_codes_and_messages(
    arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, *arguments) == code
    assert message in "".join(capsys.readouterr())


def test_launch_finds_modules_where_it_is_typed_and_takes_the_shipped_configs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()  # the user's, which is taken only as --config-dir conf
    monkeypatch.chdir(tmp_path)
    launch = Mock(side_effect=lambda *_: sys.exit(int(sys.path[0] != str(tmp_path))))
    monkeypatch.setattr("atbptt.launch.launch", launch)
    assert typed(monkeypatch, "launch", "-m", "lr=1,10") == 0
    launch.assert_called_once_with(["-m", "lr=1,10"], ROOT / "conf")
    assert sys.argv[:2] == ["atbptt", "launch"]  # as the sweep records it


def test_shell_completion_completes_what_follows_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Mock(side_effect=SystemExit(0))
    monkeypatch.setattr("atbptt.launch.launch", launch)
    monkeypatch.setenv("COMP_LINE", "atbptt launch truncation=")
    assert typed(monkeypatch, "-sc", "query=bash") == 0
    assert (launch.call_args.args[0], os.environ["COMP_LINE"]) == (["-sc", "query=bash"], "atbptt truncation=")
