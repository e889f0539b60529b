from pathlib import Path

import pytest

from atbptt.monitor.failures import LINES, READ_BYTES, print_failures
from atbptt.runs import schema
from tests.helpers.made import write_plan, write_status

TRACE = 'Traceback (most recent call last):\n  File "training.py", line 3, in train\n    raise\nValueError: no\n'


def printed(capsys: pytest.CaptureFixture[str], *paths: Path) -> list[str]:
    print_failures(paths)
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_a_failure_is_its_reason_and_its_traceback(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_status(outputs / "demo" / "a1", schema.FAILED, error="ValueError: no", attempt=2)
    (run / schema.TRACEBACK).write_text(TRACE)
    (run / schema.OUTPUT).write_text("epoch 1\n")  # the traceback says it all
    write_status(outputs / "demo" / "b2", schema.FINISHED)
    write_plan(outputs, "first", {"lr=1": run, "lr=10": outputs / "demo" / "b2", "lr=100": outputs / "demo" / "c3"})
    lines = printed(capsys, outputs)
    assert lines[0] == "failed  lr=1"
    assert lines[1].startswith(f"{run}, 2")
    assert lines[1].endswith(", on node1.cluster, attempt 2")
    assert lines[2] == "ValueError: no"
    assert lines[3:] == [f"  {line}" for line in TRACE.splitlines()]


def test_without_a_traceback_the_end_of_the_output_follows(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_status(outputs / "demo" / "a1", schema.RUNNING)
    (run / schema.OUTPUT).write_text("".join(f"line {i}\n" for i in range(LINES + 5)))
    lines = printed(capsys, run)
    assert (lines[0], lines[2], lines[3]) == ("stale  a1", "killed at epoch 2", "the end of output.txt:")
    assert lines[4:] == [f"  line {i}" for i in range(5, LINES + 5)]
    long, codes = b"x" * (2 * READ_BYTES), b"\x1b[31mred\x1b[0m \x1b[2Jand [bold]\xff\n"
    (run / schema.OUTPUT).write_bytes(long + b"\n" + codes)
    lines = printed(capsys, outputs)
    assert lines[-1] == "  red and [bold]\N{REPLACEMENT CHARACTER}"
    assert len(lines[-2]) < READ_BYTES


def test_a_crash_has_both_and_nothing_twice(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_status(outputs / "demo" / "a1", schema.FAILED, error="crashed in native code (SIGSEGV)")
    (run / schema.TRACEBACK).write_text("Fatal Python error: Fault\n")
    (run / schema.OUTPUT).write_text("epoch 1\nepoch 2\n")
    expected = ["  Fatal Python error: Fault", "the end of output.txt:", "  epoch 1", "  epoch 2"]
    assert printed(capsys, outputs)[3:] == expected
    write_status(run, schema.FAILED, error="crashed")
    (run / schema.TRACEBACK).write_text("crashed\n\nthe last that it printed:\nepoch 1\nepoch 2\n")
    assert printed(capsys, outputs)[2:] == ["  crashed", "", "  the last that it printed:", "  epoch 1", "  epoch 2"]


def test_a_run_of_two_sweeps_is_reported_once(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = (write_status(outputs / "demo" / name, schema.FAILED) for name in ("a1", "b2"))
    write_plan(outputs, "first", {"old": run, "other": other}, started=1000.0)
    write_plan(outputs, "second", {"new": run}, started=2000.0)
    lines = [line for line in printed(capsys, outputs) if line.startswith("failed") or not line]
    assert lines == ["failed  new", "", "failed  other"]


def test_files_that_cannot_be_read_are_reported(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_status(outputs / "demo" / "a1", schema.FAILED) / schema.TRACEBACK).mkdir()
    (write_status(outputs / "demo" / "b2", schema.FINISHED) / schema.STATUS).write_text("{")
    print_failures([outputs])
    out, err = capsys.readouterr()
    assert "  traceback.txt: is a folder, not a file" in out.splitlines()
    assert err.startswith(f"warning: {outputs}/demo/b2/status.json: ")


def test_no_failures(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, state in (("a1", schema.FINISHED), ("b2", schema.INTERRUPTED)):
        write_status(outputs / "demo" / name, state)
    assert printed(capsys, outputs) == ["no failures (runs: 2)"]
