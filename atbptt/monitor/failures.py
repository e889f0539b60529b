"""Why runs failed: for each the reason, the traceback, and the last that its process printed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from atbptt.monitor.reading import Reader, Run
from atbptt.runs import STALE, reason
from atbptt.runs.schema import FAILED, OUTPUT, TRACEBACK

LINES = 20  # of output
READ_BYTES = 64 * 1024  # from the end of a file that may be long
RAISED = "Traceback (most recent call last)"  # a crash in native code leaves another kind of trace


def print_failures(paths: Sequence[Path]) -> None:
    """Print every run at and below the paths that failed, was killed or hangs; or that there is none.

    Arguments:
        paths: run directories, or folders of them.

    Raises:
        AnalysisError: a path is no folder, or nothing is there.
    """
    report = Reader(paths).read()
    failures = [run for run in report.runs if run.last.state in (FAILED, STALE)]
    # Nothing is wrapped: what is printed here gets copied.
    console = Console(highlight=False, soft_wrap=True)
    for number, run in enumerate(failures):
        if number:
            console.print()
        _print_failure(console, run)
    if not failures:
        console.print(f"no failures (runs: {len(report.runs)})")
    for problem in report.problems:
        print(f"warning: {problem}", file=sys.stderr)


def _print_failure(console: Console, run: Run) -> None:
    status = run.last
    facts = [str(status.directory)]
    if status.heartbeat is not None:
        facts.append(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.heartbeat)))
    if status.host:
        facts.append(f"on {status.host}")
    if status.attempt is not None:
        facts.append(f"attempt {status.attempt}")
    console.print(Text(f"{status.state}  {run.label}", style="bold red"))
    console.print(Text(", ".join(facts), style="dim"))
    trace, output = trace_and_output(status.directory)
    if status.why and trace.partition("\n")[0] != status.why:
        console.print(Text(status.why))
    if trace:
        console.print(_indented(trace))
    if output:
        console.print(Text(f"the last of {OUTPUT}:"))
        console.print(_indented(output))


def trace_and_output(directory: Path) -> tuple[str, str]:
    """A run's traceback, and the last that it printed where that does not say it all; each empty if there is none."""
    trace = _end(directory / TRACEBACK)
    if RAISED in trace:
        return trace, ""
    output = "\n".join(_end(directory / OUTPUT).splitlines()[-LINES:])
    return trace, "" if output in trace else output  # who marks a crash may have stored it there


def _end(path: Path) -> str:
    """The end of a text file; empty if there is none, and where it cannot be read, why."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - READ_BYTES, 0))
            content = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path.name}: {reason(error)}"
    return content.decode(errors="replace").rstrip()


def _indented(text: str) -> Text:
    # Colours that a library printed stay colours; other control codes would move the cursor.
    return Text("\n").join(Text("  " if line else "") + Text.from_ansi(line) for line in text.splitlines())
