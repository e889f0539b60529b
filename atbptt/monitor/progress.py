"""The progress of a sweep in the terminal that launched it."""

import threading
import time
from typing import Any, Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from atbptt.monitor.display import ROWS, WRONG, counts, counts_text, tables
from atbptt.monitor.reading import Run, status_in_sweep
from atbptt.runs import BUDGET, WAITING, Job, RunStatus, read_run, result_text
from atbptt.runs.schema import FINISHED, RUNNING
from atbptt.system import Console

REFRESH_SECONDS = 0.5
LINE_SECONDS = 15.0  # between lines, if the output is no terminal


class Watch:
    """Shows the progress of a sweep's jobs from their status files, as long as it is entered.

    In a terminal, as tables that are refreshed; elsewhere a line when a run starts or ends and every `LINE_SECONDS`.
    """

    def __init__(self, jobs: list[Job], console: Console, sweep: str, rerun: bool = False) -> None:
        self.jobs = jobs
        self.console = console
        self.sweep = sweep
        self.rerun = rerun
        self.started = time.time()
        self.known: list[RunStatus | None] = [None] * len(jobs)
        self.printed = [WAITING] * len(jobs)  # the state of each run
        self.last_line = time.monotonic()
        self.stop = threading.Event()
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop.set()
        self.thread.join()
        self.show()
        if self.live:
            self.live.stop()

    def _watch(self) -> None:
        while not self.stop.wait(REFRESH_SECONDS):
            self.show()

    def show(self) -> None:
        runs = []
        for i, job in enumerate(self.jobs):
            last = self.known[i] = read_run(job.directory.path, self.known[i])
            budget = [getattr(job.settings, name) for name in BUDGET]
            runs.append(Run(job.label, last, status_in_sweep(last, self.sweep, self.started, True, self.rerun, budget)))
        if self.live:
            parts = [counts(runs, self.console), *best(runs), *tables(runs, self.console, (*WRONG, FINISHED), ROWS)]
            self.live.update(Group(*parts), refresh=True)
            return
        for i, run in enumerate(runs):
            state = run.status.state
            if state != self.printed[i]:
                self.printed[i] = state
                self.last_line = time.monotonic()
                line = f"{state:11}  {run.label}  {result_text(run.status)}".rstrip()
                self.console.print(Text(line), soft_wrap=True)
        if time.monotonic() - self.last_line > LINE_SECONDS:
            self.last_line = time.monotonic()
            running = [run.status for run in runs if run.status.state == RUNNING]
            at = [f"at epoch {s.epoch:.3g} of {s.epochs:g}" for s in running if s.epoch is not None and s.epochs]
            epochs = [Text(", ".join(at[:ROWS]))] if at else []
            self.console.print(Text(" | ").join([counts_text(runs), *best(runs), *epochs]), soft_wrap=True)


def best(runs: list[Run]) -> list[Text]:
    """The best result so far, if all have the same measure."""
    scored = [(run.status.best, i) for i, run in enumerate(runs) if run.status.best is not None]
    if len({runs[i].status.monitor for _, i in scored}) != 1:
        return []
    value, i = min(scored)
    return [Text(f"best {runs[i].status.monitor} {value:.4g}: {runs[i].label}", style="bold")]
