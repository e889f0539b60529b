"""Sweeps and runs as text: counts, time left, a table of the running runs and one of those that went wrong."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from atbptt.errors import complain
from atbptt.monitor.reading import Reader, Report, Run, Sweep
from atbptt.runs import STALE, UNKNOWN, WAITING, RunStatus, duration_text, result_text
from atbptt.runs.schema import FAILED, FINISHED, INTERRUPTED, RUNNING
from atbptt.system import Console, print_rendered, rendered

WATCH_SECONDS = 2.0
BLOCK_SECONDS = 60.0  # between blocks that differ only in progress, if the output is no terminal
ROWS = 20  # listed of a state, unless all are asked for
WIDE = 100  # columns of a terminal that has room for a progress bar and wide gaps
BAR = 20  # columns
# In the order of the counts.
STYLES = {FINISHED: "green", RUNNING: "cyan", WAITING: "", INTERRUPTED: "yellow"}
STYLES |= dict.fromkeys((STALE, FAILED, UNKNOWN), "red")
WRONG = (FAILED, STALE, UNKNOWN, INTERRUPTED)


def print_status(paths: Sequence[Path], show_all: bool = False) -> None:
    """Print the sweeps and runs at and below the paths, with `show_all` also finished and waiting ones.

    Raises:
        AnalysisError: a path is no folder, or there are no runs.
    """
    report = Reader(paths).read()
    console = _console()
    print_rendered(rendered(console, blocks(report, console, show_all)))
    for problem in report.problems:
        complain(f"warning: {problem}")


def watch_status(paths: Sequence[Path], show_all: bool = False, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show what `print_status` prints until nothing runs or waits any more, or until Ctrl-C.

    A terminal is refreshed every `WATCH_SECONDS`, with the latest sweep on top. Elsewhere a block is printed when the
    state of a run or of a launching process changes, and at most every `BLOCK_SECONDS` for progress alone.
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
            return
        states, printed, waited = None, "", 0.0
        while True:
            block = rendered(console, _watched(report, console, show_all))
            if _states(report) != states or (waited >= BLOCK_SECONDS and block != printed):
                states, printed, waited = _states(report), block, 0.0
                print_rendered(time.strftime("--- %Y-%m-%d %H:%M:%S\n") + block)
            if not report.pending:
                return
            sleep(WATCH_SECONDS)
            waited += WATCH_SECONDS
            report = reader.read()
    except KeyboardInterrupt:
        pass  # the usual way to end it


def _console() -> Console:
    # A pipe has no width: cells cut to 80 columns could not be widened later.
    fitted = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if fitted else 10_000)


def _states(report: Report) -> list[object]:
    sweeps = [(s.name, s.launching, [(run.label, run.status.state) for run in s.runs]) for s in report.sweeps]
    return [*sweeps, [(run.label, run.status.state) for run in report.unplanned], report.problems]


def _watched(report: Report, console: Console, show_all: bool) -> RenderableType:
    problems = [Text(f"warning: {problem}", style="yellow") for problem in report.problems]
    return Group(blocks(report, console, show_all, latest_first=True), *problems)


def blocks(report: Report, console: Console, show_all: bool = False, latest_first: bool = False) -> RenderableType:
    """A heading, counts and tables for each sweep, and for the runs of none."""
    headings = [(_heading(sweep), sweep.runs) for sweep in report.sweeps]
    if report.unplanned:
        headings.insert(0, ([Text("no sweep recorded", style="bold")], report.unplanned))
    listed = (*WRONG, FINISHED, WAITING) if show_all else WRONG
    parts: list[RenderableType] = []
    for heading, runs in headings[::-1] if latest_first else headings:
        parts += [Text(""), *heading, counts(runs, console), *tables(runs, console, listed, None if show_all else ROWS)]
    return Group(*parts[1:])


def _heading(sweep: Sweep) -> list[Text]:
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep.started))
    state = {True: "still runs", False: "has ended", None: "may still run: its folder's file system has no locks"}
    where = Text(f"begun {begun} on {sweep.host}, process {sweep.pid} {state[sweep.launching]}", style="dim")
    left = seconds_left(sweep)
    if left is not None:
        where.append(f"; about {duration_text(left)} left", style="not dim bold")
    return [Text(sweep.typed, style="bold"), where]


def seconds_left(sweep: Sweep) -> float | None:
    """Estimate the time until all runs have ended (s), if as many as now run at a time, each as long as those so far.

    None if nothing runs, or no run shows yet how long it takes.
    """
    running = [run.status for run in sweep.runs if run.status.state == RUNNING]
    if not sweep.launching:  # those that it has sent to a cluster
        running = [status for status in running if status.sweep == sweep.name]
    done = [run.status for run in sweep.runs if run.status.state == FINISHED and run.status.sweep == sweep.name]
    # An attempt that began from a checkpoint is no whole run: it counts only if there is no other.
    lengths = [length for status in [*done, *running] if not status.first_epoch and (length := _length(status))]
    lengths = lengths or [length for status in running if (length := _length(status))]
    if not running or not lengths:
        return None
    whole = sum(lengths) / len(lengths)
    left = [whole if status.seconds_left is None else status.seconds_left for status in running]
    waiting = sum(run.status.state == WAITING for run in sweep.runs) if sweep.launching else 0
    return max(max(left), (sum(left) + waiting * whole) / len(running))


def _length(status: RunStatus) -> float | None:
    # Seconds from the beginning of the attempt to the end of the run.
    if status.state == FINISHED:
        return status.elapsed
    if status.elapsed is None or status.seconds_left is None:
        return None
    return status.elapsed + status.seconds_left


def counts(runs: Sequence[Run], console: Console) -> RenderableType:
    """The number of runs in each state, behind a progress bar in a wide terminal."""
    text = counts_text(runs)
    if not console.is_terminal or console.width < WIDE:
        return text
    done = 0.0
    for status in (run.status for run in runs):
        if status.state == FINISHED:
            done += 1.0
        elif status.epoch and status.epochs:
            done += min(max(status.epoch / status.epochs, 0.0), 1.0)
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(total=len(runs), completed=done, width=BAR), text)
    return line


def counts_text(runs: Sequence[Run]) -> Text:
    """The number of runs in each state: `1 of 3 finished, 2 running`."""
    number = Counter(run.status.state for run in runs)
    text = Text(f"{number[FINISHED]} of {len(runs)} finished", style=STYLES[FINISHED])
    for state, style in STYLES.items():
        if number[state] and state != FINISHED:
            text.append(", ", style="default").append(f"{number[state]} {state}", style=style or "default")
    return text


def tables(runs: Sequence[Run], console: Console, listed: Sequence[str], rows: int | None) -> list[RenderableType]:
    """A table of the running runs, and one of those in the `listed` states; at most so many rows of each state."""
    by_state = {state: [run for run in runs if run.status.state == state] for state in (RUNNING, *listed)}
    running = by_state[RUNNING][:rows]
    others = [run for state in listed for run in by_state[state][:rows]]
    parts: list[RenderableType] = [_running(running, console)] if running else []
    parts += [_others(others, console)] if others else []
    hidden = [(len(of_state[rows:]), state) for state, of_state in by_state.items()] if rows else []
    more = ", ".join(f"{count} more {state}" for count, state in hidden if count)
    return [*parts, Text(f"  and {more} (status --all lists them)", style="dim")] if more else parts


def _running(runs: Sequence[Run], console: Console) -> Table:
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
            "" if status.speed is None else f"{1 / status.speed:{'.0f' if status.speed <= 0.01 else '.3g'}}",
            "" if status.seconds_left is None else duration_text(status.seconds_left),
            "" if status.K is None else str(status.K),
            "" if status.best is None else Text(f"{named}{status.best:.4g}"),
            Text(f"{(status.host or '?').partition('.')[0]}, {status.pid or '?'}"),
        )
    return table


def _others(runs: Sequence[Run], console: Console) -> Table:
    table = _table(console, show_header=False)
    state = max(len(run.status.state) for run in runs)
    label = min(max(len(run.label) for run in runs), console.width * 2 // 5)
    table.add_column(no_wrap=True, width=state)
    table.add_column(width=label, overflow="fold")
    # Without a width of its own, rich would narrow the labels for it.
    rest = max(console.width - state - label - 3 * _gap(console), 1)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=rest)
    for run in runs:
        style = STYLES[run.status.state]
        table.add_row(Text(run.status.state, style=style), Text(run.label), Text(result_text(run.status)))
    return table


def _table(console: Console, show_header: bool) -> Table:
    return Table(box=None, padding=(0, 0, 0, _gap(console)), header_style="dim", show_header=show_header)


def _gap(console: Console) -> int:
    return 2 if console.width >= WIDE else 1
