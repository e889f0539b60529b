"""What is going on: per sweep the counts and the time left, then the runs that run and those that went wrong."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from atbptt.monitor.reading import Reader, Report, Run, Sweep
from atbptt.runs import STALE, UNKNOWN, WAITING, RunStatus, duration_text, result_text
from atbptt.runs.schema import FAILED, FINISHED, INTERRUPTED, RUNNING

WATCH_SECONDS = 2.0
BLOCK_SECONDS = 60.0  # between blocks that differ in progress only, where the output is no terminal
ROWS = 20  # of one state, unless all are asked for
WIDE = 100  # columns; narrower, a progress bar and wide gaps would cost too much
BAR = 20  # columns
# In the order of the counts.
STYLES = {
    FINISHED: "green",
    RUNNING: "cyan",
    WAITING: "",
    INTERRUPTED: "yellow",
    STALE: "red",
    FAILED: "red",
    UNKNOWN: "red",
}
WRONG = (FAILED, STALE, UNKNOWN, INTERRUPTED)
QUIET = (FINISHED, WAITING)  # counted, and listed only if all are asked for


def print_status(paths: Sequence[Path], show_all: bool = False) -> None:
    """Print what is going on at and below the paths.

    Arguments:
        paths: run directories, or folders of them.
        show_all: list every run, those that are finished or wait too.

    Raises:
        AnalysisError: a path is no folder, or nothing is there.
    """
    report = Reader(paths).read()
    console = _console()
    show(console, blocks(report, console, show_all))
    for problem in report.problems:
        print(f"warning: {problem}", file=sys.stderr)


def watch_status(paths: Sequence[Path], show_all: bool = False, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show what is going on until nothing runs or waits any more, or until Ctrl-C.

    A terminal is refreshed every `WATCH_SECONDS`, the latest sweep on top. Elsewhere a block is printed whenever a
    run or a launching process has changed its state, and at most every `BLOCK_SECONDS` for progress alone.
    Arguments and errors as in `print_status`; `sleep` waits for so many seconds.
    """
    try:
        reader = Reader(paths)
        report = reader.read()
        console = _console()
        if console.is_terminal:
            with Live(_watched(report, console, show_all), console=console, auto_refresh=False) as live:
                while report.pending:
                    sleep(WATCH_SECONDS)
                    report = reader.read()
                    live.update(_watched(report, console, show_all), refresh=True)
        else:
            _print_changes(reader, report, console, show_all, sleep)
    except KeyboardInterrupt:
        pass  # the way to end it


def _print_changes(
    reader: Reader, report: Report, console: Console, show_all: bool, sleep: Callable[[float], None]
) -> None:
    states, printed, waited = None, "", 0.0
    while True:
        block = _text(console, _watched(report, console, show_all))
        if _states(report) != states or (waited >= BLOCK_SECONDS and block != printed):
            states, printed, waited = _states(report), block, 0.0
            print(time.strftime("--- %Y-%m-%d %H:%M:%S"), block, sep="\n", flush=True)
        if not report.pending:
            return
        sleep(WATCH_SECONDS)
        waited += WATCH_SECONDS
        report = reader.read()


def show(console: Console, renderable: RenderableType) -> None:
    """Print, and where that is no terminal, without the blanks that fill a table's lines."""
    if console.is_terminal:
        console.print(renderable)
    else:
        print(_text(console, renderable))


def _text(console: Console, renderable: RenderableType) -> str:
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _console() -> Console:
    # Fitted to a pipe's 80 columns, cells would be cut that nobody can widen.
    fitted = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if fitted else 10_000)


def _states(report: Report) -> list[object]:
    sweeps = [(s.name, s.launching, [(run.label, run.status.state) for run in s.runs]) for s in report.sweeps]
    return [*sweeps, [(run.label, run.status.state) for run in report.unplanned], report.problems]


def _watched(report: Report, console: Console, show_all: bool) -> RenderableType:
    problems = [Text(f"warning: {problem}", style="yellow") for problem in report.problems]
    return Group(blocks(report, console, show_all, latest_first=True), *problems)


def blocks(report: Report, console: Console, show_all: bool = False, latest_first: bool = False) -> RenderableType:
    """A headline and its tables for each sweep, and for the runs of none; to be shown on the console."""
    parts = [Group(*headline(sweep, console), *tables(sweep.runs, console, show_all)) for sweep in report.sweeps]
    if report.unplanned:
        title = Text("no sweep recorded", style="bold")
        parts.insert(0, Group(title, _counts(report.unplanned, console), *tables(report.unplanned, console, show_all)))
    if latest_first:
        parts.reverse()
    return Group(*(part for i, each in enumerate(parts) for part in ([Text("")] if i else []) + [each]))


def headline(sweep: Sweep, console: Console) -> list[RenderableType]:
    """The command; when and where it was typed, whether it is still at it and how long yet; how far it is."""
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep.started))
    end = {True: "still runs", False: "has ended", None: "may run: its folder's file system knows no locks"}
    where = Text(f"begun {begun} on {sweep.host}, process {sweep.pid} {end[sweep.launching]}", style="dim")
    left = seconds_left(sweep)
    if left is not None:
        where.append(f"; about {duration_text(left)} left", style="not dim bold")
    return [Text(sweep.typed, style="bold"), where, _counts(sweep.runs, console)]


def seconds_left(sweep: Sweep) -> float | None:
    """An estimate of the time until all runs have ended (s): as many at once as now, each as long as those so far.

    None where nothing runs, or no run has shown yet how long it takes; and of a sweep that has ended, unless runs that
    it sent elsewhere go on.
    """
    running = [run.status for run in sweep.runs if run.status.state == RUNNING]
    if not sweep.launching:
        running = [status for status in running if status.sweep == sweep.name]
    done = [run.status for run in sweep.runs if run.status.state == FINISHED and run.status.sweep == sweep.name]
    # An attempt that began from a checkpoint is no whole run: counted only where there is no other.
    lengths = [length for status in [*done, *running] if not status.first_epoch and (length := _length(status))]
    lengths = lengths or [length for status in running if (length := _length(status))]
    if not running or not lengths:
        return None
    whole = sum(lengths) / len(lengths)
    left = [whole if status.seconds_left is None else status.seconds_left for status in running]
    waiting = sum(run.status.state == WAITING for run in sweep.runs) if sweep.launching else 0
    return max(max(left), (sum(left) + waiting * whole) / len(running))


def _length(status: RunStatus) -> float | None:
    """Seconds from the attempt's begin to the run's end."""
    if status.state == FINISHED:
        return status.elapsed
    if status.elapsed is None or status.seconds_left is None:
        return None
    return status.elapsed + status.seconds_left


def _counts(runs: Sequence[Run], console: Console) -> RenderableType:
    counts = Counter(run.status.state for run in runs)
    text = Text(f"{counts[FINISHED]} of {len(runs)} finished", style=STYLES[FINISHED])
    for state, style in STYLES.items():
        if counts[state] and state != FINISHED:
            text.append(", ", style="default").append(f"{counts[state]} {state}", style=style or "default")
    if not console.is_terminal or console.width < WIDE:
        return text
    done = sum(1.0 if run.status.state == FINISHED else _share(run.status) for run in runs)
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(total=len(runs), completed=done, width=BAR), text)
    return line


def _share(status: RunStatus) -> float:
    return min(max(status.epoch / status.epochs, 0.0), 1.0) if status.epoch and status.epochs else 0.0


def tables(runs: Sequence[Run], console: Console, show_all: bool = False) -> list[RenderableType]:
    """A table of the runs that run, and one of those that went wrong; of all others too if they are asked for."""
    by_state: dict[str, list[Run]] = {state: [] for state in STYLES}
    for run in runs:
        by_state[run.status.state].append(run)
    rows = None if show_all else ROWS
    running = by_state[RUNNING][:rows]
    others = [run for state in (*WRONG, *(QUIET if show_all else ())) for run in by_state[state][:rows]]
    hidden = [(len(by_state[state]) - len(by_state[state][:rows]), state) for state in (RUNNING, *WRONG)]
    made: list[RenderableType] = [running_table(running, console)] if running else []
    made += [ended_table(others, console)] if others else []
    more = ", ".join(f"{count} more {state}" for count, state in hidden if count)
    return [*made, Text(f"  and {more}: --all lists them", style="dim")] if more else made


def running_table(runs: Sequence[Run], console: Console) -> Table:
    """Epoch and budget, seconds an epoch, time left, K, best so far, and where the run is."""
    monitors = {run.status.monitor for run in runs if run.status.best is not None}
    monitor = monitors.pop() if len(monitors) == 1 else None
    table = _table(console, show_header=True)
    table.add_column("running", style=STYLES[RUNNING], min_width=16, overflow="fold")
    for heading in ("epoch", "s/epoch", "left", "K", monitor or "best"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("host, pid", no_wrap=True)
    for run in runs:
        status = run.status
        of = "" if status.epochs is None else f" / {status.epochs:g}"
        named = f"{status.monitor} " if status.monitor and not monitor else ""
        table.add_row(
            Text(run.label),
            f"{status.epoch or 0:.1f}{of}",
            "" if status.speed is None else _three_digits(1 / status.speed),
            "" if status.seconds_left is None else duration_text(status.seconds_left),
            "" if status.K is None else str(status.K),
            "" if status.best is None else Text(f"{named}{status.best:.4g}"),
            Text(f"{(status.host or '?').partition('.')[0]}, {status.pid or '?'}"),
        )
    return table


def ended_table(runs: Sequence[Run], console: Console) -> Table:
    """State, run, and in one line why, or how far it came."""
    table = _table(console, show_header=False)
    state = max(len(run.status.state) for run in runs)
    label = min(max(len(run.label) for run in runs), console.width * 2 // 5)
    table.add_column(no_wrap=True, width=state)
    table.add_column(width=label, overflow="fold")
    # rich would take from the labels what this column asks for
    table.add_column(
        no_wrap=True, overflow="ellipsis", max_width=max(console.width - state - label - 3 * _gap(console), 1)
    )
    for run in runs:
        status = run.status
        style = STYLES[status.state]
        table.add_row(Text(status.state, style=style), Text(run.label), Text(result_text(status)))
    return table


def _table(console: Console, show_header: bool) -> Table:
    return Table(box=None, padding=(0, 0, 0, _gap(console)), header_style="dim", show_header=show_header)


def _gap(console: Console) -> int:
    return 2 if console.width >= WIDE else 1


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
