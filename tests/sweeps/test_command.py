import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from atbptt import training
from atbptt.runs import schema
from atbptt.runs.status import STALE, WAITING, RunStatus
from atbptt.sweeps.command import ended, main
from atbptt.sweeps.process import Outcome
from atbptt.system.signals import ENDING, STORING
from tests.conftest import TINY


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts back what `main` changes of the process."""
    handlers = {number: signal.getsignal(number) for number in (*ENDING, *STORING)}
    shown = warnings.showwarning
    yield
    warnings.showwarning = shown
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("restored")
def test_a_users_class_that_ends_the_process_while_it_is_checked_is_reported(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an exit code of 0 with nothing done."""
    monkeypatch.setattr(training, "build", Mock(side_effect=SystemExit(0)), raising=False)
    assert main([*TINY, f"output_dir={tmp_path}"], root / "conf", lambda: None) == 1
    assert capsys.readouterr().err.startswith("error: SystemExit: 0 (")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(("end", "code"), [(SystemExit(3), 3), (SystemExit(), 0), (SystemExit("no"), 1), (None, 0)])
def test_hydras_exit_code_stands(
    root: Path, end: SystemExit | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.py", "--help", "preview=true"])
    assert main(sys.argv[1:], root / "conf", Mock(side_effect=end)) == code
    assert sys.argv == ["launch.py", "--help"]


def test_a_thread_of_a_users_class_does_not_keep_the_command_from_ending(root: Path) -> None:
    code = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    code += "from atbptt.sweeps.command import leave; print('done'); leave(3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=45)
    assert (done.returncode, done.stdout) == (3, "done\n")


@pytest.mark.parametrize(
    ("state", "why", "outcome", "expected"),
    [
        (schema.FAILED, "ValueError: no", "by the launcher", "failed: ValueError: no"),
        (schema.INTERRUPTED, "SIGTERM at epoch 1", None, "interrupted: SIGTERM at epoch 1"),
        (STALE, "killed at epoch 1.5", None, "failed: killed at epoch 1.5"),
        (STALE, "killed at epoch 1.5", "StorageError: full", "failed: killed at epoch 1.5; StorageError: full"),
        (WAITING, None, "StorageError: full", "failed: StorageError: full"),
        (WAITING, None, None, "failed: never started"),
    ],
)
def test_why_a_run_is_not_finished(state: str, why: str | None, outcome: str | None, expected: str) -> None:
    known = Outcome(schema.FAILED, outcome) if outcome else None
    assert ": ".join(ended(RunStatus(Path(), state, "id", why), known)) == expected


def test_ctrl_c_while_torch_is_imported_ends_it_at_once(root: Path, tmp_path: Path) -> None:
    """By the signal itself: a handler of Python's would wait for torch's native code."""
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, str(root / "launch.py"), f"output_dir={tmp_path}/out"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT
    assert not (tmp_path / "out").exists()
