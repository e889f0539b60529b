"""What a person sees of a sweep while it runs: each run's progress, the best result so far."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from atbptt.runs import STALE, STATES, WAITING, Job, RunStatus, read_run, result_text, schema

REFRESH_SECONDS = 0.5
LINE_SECONDS = 15.0  # between lines where the output is no terminal
ROWS = 20  # runs shown at once


class Watch:
    """Shows the jobs' progress from their status files until it is left.

    In a terminal a table that refreshes itself; elsewhere a line when a run starts or ends and every
    `LINE_SECONDS`. The runs themselves print nothing but what libraries warn of, so lines do not interleave.

    Arguments:
        jobs: the runs to watch, in any process.
        console: where to show them.
        sweep: name of the sweep that launches them; what an earlier one left is not its progress.
    """

    def __init__(self, jobs: list[Job], console: Console, sweep: str | None) -> None:
        self.jobs = jobs
        self.console = console
        self.sweep = sweep
        self.known: dict[int, RunStatus] = {}
        self.shown: dict[int, str] = {}
        self.last_line = time.monotonic()
        self.stop = threading.Event()
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        if self.live:
            self.live.start()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join()
        self._show()
        if self.live:
            self.live.stop()

    def _watch(self) -> None:
        while not self.stop.wait(REFRESH_SECONDS):
            self._show()

    def _show(self) -> None:
        statuses = [self._look(i) for i in range(len(self.jobs))]
        if self.live:
            self.live.update(Group(headline(self.jobs, statuses), running_table(self.jobs, statuses)), refresh=True)
            return
        for i, status in enumerate(statuses):
            if status.state != self.shown.get(i, WAITING):
                self.shown[i] = status.state
                self.last_line = time.monotonic()
                line = f"{status.state:11}  {self.jobs[i].label}  {result_text(status)}".rstrip()
                self.console.print(line, soft_wrap=True, markup=False, highlight=False)
        if time.monotonic() - self.last_line > LINE_SECONDS:
            self.last_line = time.monotonic()
            at = [s for s in statuses if s.state == schema.RUNNING and None not in (s.epoch, s.epochs)]
            epochs = ", ".join(f"at epoch {s.epoch:.3g} of {s.epochs:g}" for s in at[:ROWS])
            self.console.print(headline(self.jobs, statuses) + Text(f" | {epochs}" if epochs else ""), soft_wrap=True)

    def _look(self, i: int) -> RunStatus:
        self.known[i] = read_run(self.jobs[i].directory.path, self.known.get(i))
        return current(self.known[i], self.jobs[i], self.sweep)


def current(status: RunStatus, job: Job, sweep: str | None) -> RunStatus:
    """A job's status in a sweep: waiting, whatever an earlier sweep left, until this one or another process runs it."""
    settings = job.settings
    its_own = (
        status.sweep == sweep if status.state != schema.FINISHED else status.reached(settings.epochs, settings.seconds)
    )
    return (
        status
        if its_own or status.state == schema.RUNNING
        else RunStatus(status.directory, WAITING, status.experiment_id)
    )


def headline(jobs: list[Job], statuses: list[RunStatus]) -> Text:
    """Counts by state, and the best result so far."""
    counts = Counter(status.state for status in statuses)
    text = Text(", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]))
    scored = [(status.best, i) for i, status in enumerate(statuses) if status.best is not None]
    if scored and len({statuses[i].monitor for _, i in scored}) == 1:  # a perplexity and an error do not compare
        value, i = min(scored)
        text.append(f" | best {statuses[i].monitor} {value:.4g}: {jobs[i].label}", style="bold")
    return text


STYLES = {
    schema.RUNNING: "cyan",
    schema.FINISHED: "green",
    schema.FAILED: "red",
    STALE: "red",
    schema.INTERRUPTED: "yellow",
}
# The running ones first.
ORDER = [schema.RUNNING, schema.FAILED, STALE, schema.INTERRUPTED, schema.FINISHED]


def running_table(jobs: list[Job], statuses: list[RunStatus]) -> Table:
    """A row a run that has begun, the running ones first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("run", "", "epoch", "K", "best", "at epoch"):
        table.add_column(heading, justify="left" if heading in ("run", "") else "right", no_wrap=heading != "run")
    begun = sorted(
        (i for i, status in enumerate(statuses) if status.state in ORDER), key=lambda i: ORDER.index(statuses[i].state)
    )
    for i in begun[:ROWS]:
        status = statuses[i]
        bar: ProgressBar | Text = ProgressBar(
            total=max(status.epochs or 1, 1e-9), completed=status.epoch or 0, width=20
        )
        if status.state not in (schema.RUNNING, schema.FINISHED):
            bar = Text(status.state, style=STYLES[status.state])
        table.add_row(
            Text(jobs[i].label, style=STYLES[status.state]),
            bar,
            f"{status.epoch or 0:.1f} / {status.epochs or 0:g}",
            "" if status.K is None else str(status.K),
            "" if status.best is None else f"{status.best:.4f}",
            "" if status.best_epoch is None else f"{status.best_epoch:.3g}",
        )
    if len(begun) > ROWS:
        table.add_row(Text(f"... and {len(begun) - ROWS} more", style="dim"))
    return table
