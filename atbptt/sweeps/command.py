"""The command line of launch.py: plan, show or run, and say what became of each run."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from atbptt.config import split_preview
from atbptt.errors import ConfigError, described, show_warning
from atbptt.monitor import STYLES, Watch
from atbptt.runs import STALE, UNKNOWN, WAITING, RunStatus, SweepDirectory, duration_text, read_run, result_text, schema
from atbptt.sweeps.planning import Plan, compose, plan
from atbptt.system import ENDING, STORING, LeftRunningError, StorageError, handle

if TYPE_CHECKING:
    from atbptt.sweeps.process import Outcome

TRACEBACK_HINT = "HYDRA_FULL_ERROR=1 shows where"
LINES = 20  # of skipped runs
# What a preview says of a run by its state, and of one that is done.
TO_COME = {
    WAITING: "new",
    UNKNOWN: "new",
    schema.RUNNING: "running elsewhere",
    schema.FAILED: "failed, to be retried",
    STALE: "killed, to be continued",
    schema.INTERRUPTED: "interrupted, to be continued",
    schema.FINISHED: "finished, to be extended",
}
DONE = "finished, to be skipped"
# What the sum at the end says besides states.
SKIPPED, ELSEWHERE = "skipped", "running elsewhere"


def main(arguments: Sequence[str], config_dir: Path, show: Callable[[], object]) -> int:
    """Plan, run and report.

    Arguments:
        arguments: of the command line.
        config_dir: folder of the primary config.
        show: answers what runs nothing, as --help.

    Returns:
        The exit code: 0; 1 if the input is bad or a run failed; 130 if it was interrupted.
    """
    for number in STORING:  # for the runs, which do not listen yet
        signal.signal(number, lambda *_: None)
    warnings.showwarning = show_warning
    console, errors = PlainConsole(), PlainConsole(stderr=True)
    began = time.monotonic()
    try:
        composed = compose(arguments, config_dir)
        if composed is None:
            sys.argv[1:], _ = split_preview(arguments)  # which Hydra reads
            return shown(show)
        importlib.import_module("atbptt.sweeps.launching")  # torch: seconds, in which Ctrl-C ends this at once
        handle(dict.fromkeys(ENDING, signal.default_int_handler))
        planned = plan(composed, prepare)
        if planned.preview:
            preview(planned, console)
            return 0
        print_skipped(planned, console)
        outcomes = run(planned, console) if planned.ahead else {}
        return report(planned, outcomes, time.monotonic() - began, console, errors)
    except KeyboardInterrupt:
        print_error("interrupted: the same command continues from the last checkpoints", errors)
        return 130
    except LeftRunningError as left:
        console.print(str(left), soft_wrap=True)
        return 0
    except (Exception, SystemExit) as error:  # a ConfigError; or a user's class, or a launcher, did what none should
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        known = isinstance(error, ConfigError | StorageError)
        print_error(f"error: {error if known else f'{described(error)} ({TRACEBACK_HINT})'}", errors)
        return 1


def shown(show: Callable[[], object]) -> int:
    """Have Hydra answer; the exit code, also where it would end the process itself."""
    try:
        show()
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # nobody reads any more
        return 1
    return 0


class PlainConsole(Console):
    """Prints names as they are, and goes on where nobody reads any more, as behind `| head`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Print nothing from now on; the runs go on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def leave(code: int) -> NoReturn:
    """End the process, whatever threads and processes a user's class has started while it was checked here."""
    for child in multiprocessing.active_children():
        child.kill()
    strangers = [thread for thread in threading.enumerate() if not thread.daemon]
    if strangers == [threading.main_thread()]:
        sys.exit(code)
    for text in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            text.flush()
    os._exit(code)


def prepare(planned: Plan) -> None:
    """While the plan is checked, have what its runs need imported where they will be forked from."""
    if planned.local and planned.ahead and not planned.preview:
        from atbptt.sweeps import process
        from atbptt.sweeps.launching import modules_of

        process.prepare(modules_of(job.settings for job in planned.ahead))


def run(planned: Plan, console: Console) -> dict[int, Outcome]:
    """Launch the jobs that have work left; the outcomes that the launcher knows, by a job's number among them."""
    from atbptt.sweeps.launching import launch, prepared_launcher

    sweep = SweepDirectory.make(planned.jobs[0])
    with prepared_launcher(planned.command, sweep.path) as (launcher, config):
        with sweep.recorded(planned.jobs, planned.ahead, config), Watch(planned.ahead, console, sweep.path.name):
            if hasattr(launcher, "say"):  # one of ours
                launcher.say = lambda line: console.print(line, soft_wrap=True)
            launch(launcher, planned.ahead)
        return dict(getattr(launcher, "outcomes", {}))


def preview(planned: Plan, console: Console) -> None:
    """List what would run, and run nothing."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("experiment_id", "state", "epoch", "run"):
        table.add_column(heading, justify="right" if heading == "epoch" else "left", no_wrap=heading != "run")
    ahead = {id(job) for job in planned.ahead}
    counts: Counter[str] = Counter()
    for job in planned.jobs:
        status = read_run(job.directory.path)
        state = TO_COME[status.state] if id(job) in ahead else DONE
        counts[state] += 1
        at = "" if status.epoch is None else f"{status.epoch:.3g} of {job.settings.epochs:g}"
        table.add_row(job.directory.experiment_id, Text(state, style=STYLES.get(status.state, "")), at, Text(job.label))
    console.print(table)
    folders = sorted({str(job.directory.path.parent) for job in planned.jobs})
    sums = "; ".join(f"{count} {state}" for state, count in counts.items())
    console.print(f"{len(planned.jobs)} runs in {', '.join(folders)}: {sums}", soft_wrap=True)


def print_skipped(planned: Plan, console: Console) -> None:
    """A line for each run that is finished already, or one for many."""
    ahead = {id(job) for job in planned.ahead}
    finished = [job for job in planned.jobs if id(job) not in ahead]
    for job in finished if len(finished) <= LINES else ():
        found = result_text(read_run(job.directory.path))
        console.print(f"skipped      {job.label}  finished before: {found} ({job.directory.path})", soft_wrap=True)
    if len(finished) > LINES:
        console.print(f"skipped      {len(finished)} runs that were finished before")


def report(planned: Plan, outcomes: dict[int, Outcome], seconds: float, console: Console, errors: Console) -> int:
    """Where the results are, what is not finished and why, and the sum; the exit code."""
    counts: Counter[str] = Counter({SKIPPED: len(planned.jobs) - len(planned.ahead)})
    for number, job in enumerate(planned.ahead):
        status = read_run(job.directory.path)
        if job.directory.finished():
            counts[schema.FINISHED] += 1
        elif status.state == schema.RUNNING or job.directory.busy():
            counts[ELSEWHERE] += 1
            line = f"running      {job.label}: by process {status.pid} on {status.host} ({job.directory.path})"
            console.print(line, soft_wrap=True)
        else:
            state, reason = ended(status, outcomes.get(number))
            counts[state] += 1
            print_error(f"{state:11}  {job.label}: {reason} ({job.directory.path})", errors)
    folders = sorted({str(job.directory.path.parent) for job in planned.jobs})
    for folder in folders:
        console.print(f"runs in {folder}/, see: python -m analysis table {shlex.quote(folder)}", soft_wrap=True)
    if counts[schema.FAILED]:
        line = f"tracebacks: python -m analysis failures {shlex.join(folders)}"
        console.print(line, soft_wrap=True)
    order = (SKIPPED, schema.FINISHED, ELSEWHERE, schema.INTERRUPTED, schema.FAILED)
    sums = ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
    console.print(f"{len(planned.jobs)} runs in {duration_text(seconds)}: {sums}", soft_wrap=True)
    return 1 if counts[schema.INTERRUPTED] or counts[schema.FAILED] else 0


def ended(status: RunStatus, outcome: Outcome | None) -> tuple[str, str]:
    """State and reason of a run that is not finished, by its directory and the outcome that the launcher knows."""
    if status.state in (schema.FAILED, schema.INTERRUPTED):
        return status.state, status.why or ""
    reasons = [status.why if status.state == STALE else None, outcome.reason if outcome is not None else None]
    # The launcher knows where nothing could be stored, as on a full disk, or what a cluster's scheduler did.
    return schema.FAILED, "; ".join(reason for reason in reasons if reason) or "never started"


def print_error(line: str, errors: Console) -> None:
    """A line on stderr, as it is."""
    errors.print(line, style="red", soft_wrap=True)
