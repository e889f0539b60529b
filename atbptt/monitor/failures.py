"""Why runs failed: the reason, the traceback, and the end of what their processes printed."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from atbptt.errors import complain
from atbptt.monitor.reading import Reader, Run
from atbptt.runs import STALE, reason
from atbptt.runs.schema import FAILED, OUTPUT, TRACEBACK
from atbptt.system import Console, open_file

LINES = 20  # of output
READ_BYTES = 64 * 1024  # from the end of a file that may be long
RAISED = "Traceback (most recent call last)"  # a crash in native code leaves another kind of trace


def print_failures(paths: Sequence[Path]) -> None:
    """Print why runs at and below the paths failed, were killed or hang.

    Raises:
        AnalysisError: a path is no folder, or there are no runs.
    """
    report = Reader(paths).read()
    failures = [run for run in report.runs if run.last.state in (FAILED, STALE)]
    # Lines are not wrapped, so that they can be copied.
    console = Console(soft_wrap=True)
    for number, run in enumerate(failures):
        if number:
            console.print()
        _print_failure(console, run)
    if not failures:
        console.print(f"no failures (runs: {len(report.runs)})")
    for problem in report.problems:
        complain(f"warning: {problem}")


def _print_failure(console: Console, run: Run) -> None:
    status = run.last
    facts = [
        str(status.directory),
        status.heartbeat is not None and time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.heartbeat)),
        status.host and f"on {status.host}",
        status.attempt is not None and f"attempt {status.attempt}",
    ]
    console.print(Text(f"{status.state}  {run.label}", style="bold red"))
    console.print(Text(", ".join(str(fact) for fact in facts if fact), style="dim"))
    trace, output = trace_and_output(status.directory)
    if status.why and trace.partition("\n")[0] != status.why:
        console.print(Text(status.why))
    if trace:
        console.print(_indented(trace))
    if output:
        console.print(Text(f"the end of {OUTPUT}:"))
        console.print(_indented(output))


def trace_and_output(directory: Path) -> tuple[str, str]:
    """A run's traceback, and the end of its output unless the traceback tells all; empty texts if there is none."""
    trace = _end(directory / TRACEBACK)
    if RAISED in trace:
        return trace, ""
    output = "\n".join(_end(directory / OUTPUT).splitlines()[-LINES:])
    return trace, "" if output in trace else output  # of a crash, the traceback may hold the output


def _end(path: Path) -> str:
    """The end of a text file, or why it cannot be read; empty if there is none."""
    try:
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - READ_BYTES, 0))
            content = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path.name}: {reason(error)}"
    return content.decode(errors="replace").rstrip()


def _indented(text: str) -> Text:
    # Colours are kept; other control codes would move the cursor.
    return Text("\n").join(Text("  " if line else "") + Text.from_ansi(line) for line in text.splitlines())
