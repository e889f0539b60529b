"""What a person sees of a sweep while it runs: each run's progress, the best result so far."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from atbptt import schema
from atbptt.planning import Job

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
    """

    def __init__(self, jobs: list[Job], console: Console) -> None:
        self.jobs = jobs
        self.console = console
        self.began = time.time()
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
        statuses = [current_status(job, self.began) for job in self.jobs]
        if self.live:
            self.live.update(Group(headline(self.jobs, statuses), running_table(self.jobs, statuses)), refresh=True)
            return
        for i, status in enumerate(statuses):
            state = str(status.get("state", "waiting"))
            if state != self.shown.get(i, "waiting"):
                self.shown[i] = state
                self.last_line = time.monotonic()
                line = f"{state:8}  {self.jobs[i].label}  {result(status)}".rstrip()
                self.console.print(line, soft_wrap=True, markup=False)
        if time.monotonic() - self.last_line > LINE_SECONDS:
            self.last_line = time.monotonic()
            at = [s for s in statuses if s.get("state") == schema.RUNNING and "epoch" in s]
            told = ", ".join(f"at epoch {s['epoch']:.3g} of {s['epochs']:g}" for s in at[:ROWS])
            self.console.print(headline(self.jobs, statuses) + Text(f" | {told}"), soft_wrap=True)


def current_status(job: Job, began: float) -> dict[str, Any]:
    """The job's status; empty while it waits, whatever an earlier attempt left."""
    status = job.directory.status()
    if job.directory.finished(status) or status.get("heartbeat", 0) >= began:
        return status
    return {}


def result(status: dict[str, Any]) -> str:
    """How far a run is and the best it found: `epoch 12.5 of 30, K 9, valid_ppl 1.02 at epoch 11`."""
    if status.get("error"):
        return str(status["error"])
    if "epoch" not in status:
        return ""
    text = f"epoch {status['epoch']:.3g} of {status['epochs']:g}, K {status['K']}"
    if status.get("best") is not None:
        text += f", {status['monitor']} {status['best']:.4g} at epoch {status['best_epoch']:.3g}"
    return text


def headline(jobs: list[Job], statuses: list[dict[str, Any]]) -> Text:
    """Counts by state, and the best result so far."""
    counts = Counter(status.get("state", "waiting") for status in statuses)
    text = Text(", ".join(f"{counts[state]} {state}" for state in (*STATE_STYLES, "waiting") if counts[state]))
    scored = [(s["best"], i) for i, s in enumerate(statuses) if s.get("best") is not None]
    if scored and len({statuses[i]["monitor"] for _, i in scored}) == 1:  # a perplexity and an error do not compare
        value, i = min(scored)
        text.append(f" | best {statuses[i]['monitor']} {value:.4g}: {jobs[i].label}", style="bold")
    return text


STATE_STYLES = {schema.RUNNING: "cyan", schema.FINISHED: "green", schema.FAILED: "red"}


def running_table(jobs: list[Job], statuses: list[dict[str, Any]]) -> Table:
    """A row a run that has begun, the running ones first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("run", "", "epoch", "K", "best", "at epoch"):
        table.add_column(heading, justify="left" if heading in ("run", "") else "right", no_wrap=heading != "run")
    order = {schema.RUNNING: 0, schema.FAILED: 1, schema.FINISHED: 2}
    begun = sorted((i for i, status in enumerate(statuses) if status), key=lambda i: order.get(statuses[i]["state"], 3))
    for i in begun[:ROWS]:
        status = statuses[i]
        bar: ProgressBar | Text = ProgressBar(
            total=max(status.get("epochs", 1), 1e-9), completed=status.get("epoch", 0), width=20
        )
        if status["state"] == schema.FAILED:
            bar = Text("failed", style="red")
        best = status.get("best")
        table.add_row(
            Text(jobs[i].label, style=STATE_STYLES.get(status["state"], "")),
            bar,
            f"{status.get('epoch', 0):.1f} / {status['epochs']:g}",
            str(status.get("K", "")),
            "" if best is None else f"{best:.4f}",
            "" if best is None else f"{status['best_epoch']:.3g}",
        )
    if len(begun) > ROWS:
        table.add_row(Text(f"... and {len(begun) - ROWS} more", style="dim"))
    return table
