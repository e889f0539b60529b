import errno
import os
import subprocess
import sys
from unittest.mock import Mock

import pytest

from atbptt.errors import AnalysisError, ConfigError
from atbptt.system import Parser, StorageError, UsageError, needed_by, program, run_command
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (UsageError("bad usage"), 1, "error: bad usage\n"),
        (ConfigError("tau", "(=9) is too long"), 1, "error: tau (=9) is too long\n"),
        (AnalysisError("no runs"), 1, "error: no runs\n"),
        (StorageError("disk full"), 1, "error: disk full\n"),
        (ArithmeticError("own"), 1, "error: own\n"),
        (PermissionError(errno.EACCES, "Denied"), 1, "error: PermissionError: [Errno 13] Denied\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes_and_messages(
    error: BaseException | None, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(Mock(side_effect=error), ArithmeticError) == code
    assert capsys.readouterr() == ("", message)


def test_a_bug_is_not_taken_for_bad_input() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_output_that_nobody_reads_ends_the_command_without_a_message() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from atbptt.system import run_command; sys.exit(run_command(lambda: print('text')))"
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_bad_usage_is_raised() -> None:
    parser = Parser(prog="python -m some")
    parser.add_argument("name", metavar="NAME")
    with pytest.raises(UsageError, match=r"^the following arguments are required: NAME; see python -m some --help$"):
        parser.parse_args([])


@pytest.mark.parametrize(
    ("started", "named"),
    [
        ("launch.py", ["python launch.py", "python -m atbptt.datasets fetch", "python -m analysis table"]),
        ("atbptt", ["atbptt launch", "atbptt fetch", "atbptt table"]),
    ],
)
def test_commands_are_named_as_the_user_types_them(
    started: str, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started, "-m"])
    assert [program(command) for command in ("launch", "fetch", "table")] == named
    assert program() == named[2].removesuffix(" table")


def test_a_missing_package_is_reported_with_what_to_install() -> None:
    with pytest.raises(SystemExit) as ended, needed_by("python -m atbptt.probe"):
        raise ModuleNotFoundError("No module named 'hydra.utils'", name="hydra.utils")
    assert ended.value.code == (
        "error: python -m atbptt.probe needs the packages of experiments: "
        "pip install '.[experiments]' in the clone (hydra.utils is missing)"
    )


@pytest.mark.parametrize("error", [ModuleNotFoundError("gone", name="atbptt.nothing"), ImportError("half gone")])
def test_what_is_broken_otherwise_is_not_hidden(error: ImportError) -> None:
    with pytest.raises(type(error)), needed_by("python launch.py"):
        raise error
