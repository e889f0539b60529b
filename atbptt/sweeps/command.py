"""The command line of a sweep: plan, list or run the jobs, and report how each ended."""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.table import Table
from rich.text import Text

from atbptt import runs
from atbptt.config import SUPPLIED
from atbptt.errors import ConfigError, described, show_warning
from atbptt.monitor import STYLES, Watch
from atbptt.runs import schema
from atbptt.sweeps.planning import Plan, compose, plan
from atbptt.sweeps.showing import shown
from atbptt.system import ENDING, STORING, Console, Lasting, LeftRunningError, StorageError, handle, let_go, program

if TYPE_CHECKING:
    from atbptt.sweeps.process import Outcome

TRACEBACK_HINT = "HYDRA_FULL_ERROR=1 shows the traceback"
LINES = 20  # of skipped runs
PIPE_COLUMNS = 10_000
SKIPPED, ELSEWHERE = "skipped", "running elsewhere"  # counted like states
# What a preview says of an unfinished run, by its state.
TO_COME = {
    runs.WAITING: "new",
    runs.UNKNOWN: "new",
    schema.RUNNING: ELSEWHERE,
    schema.FAILED: "failed, to be retried",
    runs.STALE: "killed, to be continued",
    schema.INTERRUPTED: "interrupted, to be continued",
    schema.FINISHED: "finished, to be extended",
}
ANEW = "to be run anew"  # the same, with rerun=true


def main(arguments: Sequence[str], config_dir: Path, show: Callable[[], object]) -> int:
    """Plan, run and report; the exit code. `show` has Hydra answer options that run nothing, such as --help."""
    for number in STORING:  # meant for the runs, of which there are none yet
        signal.signal(number, lambda *_: None)
    warnings.showwarning = show_warning
    console, errors = PlainConsole(), PlainConsole(stderr=True, style="red")
    began, again = time.monotonic(), "the same command"
    try:
        composed = compose(arguments, config_dir)
        if composed is None:
            return shown(arguments, config_dir, show)
        importlib.import_module("atbptt.sweeps.launching")  # torch: takes seconds, in which Ctrl-C ends this at once
        handle(dict.fromkeys(ENDING, signal.default_int_handler))
        if composed.space is not None:
            return importlib.import_module("atbptt.sweeps.searching").search(composed, console, errors)
        planned = plan(composed, prepare)
        for remark in planned.remarks:
            console.print(remark)
        if planned.command.preview:
            preview(planned, console)
            return 0
        print_skipped(planned, console)
        if planned.command.rerun:
            again += " without rerun=true"
            print_anew(planned, console)
        store_notes(planned, console, errors)
        sweep, outcomes = run(planned, console) if planned.ahead else ("", {})
        store_notes(planned, console, errors)  # a job of another sweep may have finished a run
        return report(planned, sweep, outcomes, time.monotonic() - began, console, errors)
    except KeyboardInterrupt:
        errors.print(f"interrupted: {again} continues from the last checkpoints")
        return 130
    except LeftRunningError as left:
        console.print(str(left))
        return 0
    except BaseException as error:  # of the config, the disk, a user's class or a launcher
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        known = isinstance(error, ConfigError | StorageError)
        errors.print(f"error: {error if known else f'{described(error)} ({TRACEBACK_HINT})'}")
        return 1


class PlainConsole(Console):
    """Prints lines as they are; if its pipe is closed, as behind `| head`, or its disk full, the runs go on."""

    def __init__(self, stderr: bool = False, **options: Any) -> None:
        super().__init__(soft_wrap=True, file=Lasting(sys.stderr if stderr else sys.stdout), **options)


def leave(code: int) -> NoReturn:
    """End the process, even if a user's class has started threads or processes."""
    for child in multiprocessing.active_children():
        with contextlib.suppress(ProcessLookupError):
            if child.pid is not None:
                os.kill(child.pid, signal.SIGKILL)  # those of joblib have no `kill`
    for stream in (sys.stdout, sys.stderr):
        let_go(stream)
    strangers = [thread for thread in threading.enumerate() if not thread.daemon]
    if strangers == [threading.main_thread()]:
        gc.freeze()  # else Python looks for cycles among all of torch's objects first, which takes 2 seconds
        sys.exit(code)
    for text in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            text.flush()
    os._exit(code)


def prepare(planned: Plan) -> None:
    """Start the process that runs are forked from, which imports what they need while the plan is checked."""
    if planned.local and planned.ahead and not planned.command.preview:
        from atbptt.sweeps import process

        parts = (job.settings.component(group) for job in planned.ahead for group in SUPPLIED)
        modules = (module for part in parts for module in (part.module, *part.sources()))
        process.prepare(["atbptt.sweeps.launching", *dict.fromkeys(modules)])


def run(planned: Plan, console: Console) -> tuple[str, dict[int, Outcome]]:
    """Launch the jobs ahead; the sweep's name, and the outcomes that the launcher knows, by their numbers."""
    from atbptt.sweeps.launching import launch, prepared_launcher

    rerun = planned.command.rerun
    with (
        runs.made_sweep(planned.jobs[0].settings.output_dir) as sweep,
        prepared_launcher(planned.command, planned.ahead, sweep) as (launcher, config),
    ):
        recorded = runs.recorded(sweep, planned.jobs, planned.ahead, config, rerun)
        with recorded, Watch(planned.ahead, console, sweep.name, rerun):
            if hasattr(launcher, "say"):  # one of ours
                launcher.say = console.print
            outcomes = launch(launcher, planned.ahead)
        return sweep.name, outcomes


def preview(planned: Plan, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("experiment_id", "state", "epoch", "run"):
        table.add_column(heading, justify="right" if heading == "epoch" else "left", no_wrap=heading != "run")
    ahead = {id(job) for job in planned.ahead}
    counts: Counter[str] = Counter()
    for job in planned.jobs:
        status = runs.read_run(job.directory.path)
        state = TO_COME[status.state] if id(job) in ahead else "finished, to be skipped"
        if planned.command.rerun and status.state != schema.RUNNING and job.directory.begun():
            state = ANEW
        counts[state] += 1
        at = "" if status.epoch is None else f"{status.epoch:.3g} of {job.settings.epochs:g}"
        table.add_row(job.directory.experiment_id, Text(state, style=STYLES.get(status.state, "")), at, Text(job.label))
    if not console.is_terminal:  # a pipe has no width: a label would be broken at 80 columns
        console.width = PIPE_COLUMNS
    console.print(table, soft_wrap=False)
    sums = "; ".join(f"{count} {state}" for state, count in counts.items())
    console.print(f"{len(planned.jobs)} runs in {', '.join(folders_of(planned))}: {sums}")


def print_skipped(planned: Plan, console: Console) -> None:
    """Print a line for each run that was finished before, or one for many."""
    ahead = {id(job) for job in planned.ahead}
    finished = [job for job in planned.jobs if id(job) not in ahead]
    if len(finished) > LINES:
        console.print(f"skipped      {len(finished)} runs that were finished before")
        return
    for job in finished:
        found = runs.result_text(runs.read_run(job.directory.path))
        console.print(f"skipped      {job.label}  finished before: {found} ({job.directory.path})")


def print_anew(planned: Plan, console: Console) -> None:
    """Print how many runs begin anew, and where the stored ones are kept."""
    begun = [job for job in planned.ahead if job.directory.begun() and not job.directory.busy()]
    if begun:
        folders = ", ".join(dict.fromkeys(str(job.directory.old) for job in begun))
        count = f"{len(begun)} of {len(planned.ahead)} runs"
        console.print(f"anew         {count}; what is stored of them is kept in {folders}/")


def store_notes(planned: Plan, console: Console, errors: Console) -> None:
    """Store notes and tags with the finished runs; the others do it when they begin."""
    if planned.command.rerun:  # so do all; what is set aside, or has not begun anew, keeps its own
        return
    changed = 0
    for job in planned.jobs:
        settings = job.settings
        if (settings.notes, settings.tags) != (None, None) and job.directory.finished():
            try:
                changed += job.directory.note()
            except runs.BusyError as error:
                errors.print(f"{job.label}: notes and tags are not stored: {error}")
    if changed:
        console.print(f"noted        {changed} of {len(planned.jobs)} runs: new notes or tags")


def report(
    planned: Plan, sweep: str, outcomes: dict[int, Outcome], seconds: float, console: Console, errors: Console
) -> int:
    """Print why runs are not finished, where the results are, and the sums; the exit code."""
    counts: Counter[str] = Counter({SKIPPED: len(planned.jobs) - len(planned.ahead)})
    traced, launched = False, time.time() - seconds
    for number, job in enumerate(planned.ahead):
        status = runs.read_run(job.directory.path)
        before = planned.command.rerun and not job.directory.begun_anew(sweep)
        if job.directory.finished() and not before:
            counts[schema.FINISHED] += 1
        elif status.state == schema.RUNNING or job.directory.busy():
            counts[ELSEWHERE] += 1
            where = f"by process {status.pid} on {status.host} ({job.directory.path})"
            console.print(f"running      {job.label}: {where}")
        else:
            state, reason = settled(job.directory, status, outcomes.get(number), sweep, launched, before)
            counts[state] += 1
            traced |= state == schema.FAILED and job.directory.path.is_dir()
            errors.print(f"{state:11}  {job.label}: {reason} ({job.directory.path})")
    folders = folders_of(planned)
    for folder in folders:
        console.print(f"runs in {folder}/, see: {program('table')} {shlex.quote(folder)}")
    if traced:
        console.print(f"tracebacks: {program('failures')} {shlex.join(folders)}")
    order = (SKIPPED, schema.FINISHED, ELSEWHERE, schema.INTERRUPTED, schema.FAILED)
    sums = ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
    console.print(f"{len(planned.jobs)} runs in {runs.duration_text(seconds)}: {sums}")
    return 1 if counts[schema.INTERRUPTED] or counts[schema.FAILED] else 0


def folders_of(planned: Plan) -> list[str]:
    return sorted({str(job.directory.path.parent) for job in planned.jobs})


def settled(
    directory: runs.RunDirectory,
    status: runs.RunStatus,
    outcome: Outcome | None,
    sweep: str,
    began: float,
    before: bool = False,
) -> tuple[str, str]:
    """State and reason of an unfinished run of a sweep, as in `ended`; its directory tells them from now on.

    `before` is whether the status is of a run that should have begun anew.
    """
    state, reason = ended(replace(status, state=runs.WAITING) if before else status, outcome, sweep, began)
    if not told(status, sweep, began):
        directory.bury(reason, sweep=sweep, started=status.started)
    return state, reason


def ended(status: runs.RunStatus, outcome: Outcome | None, sweep: str, began: float = math.inf) -> tuple[str, str]:
    """State and reason of an unfinished run of a sweep that began at this unix time; not what was stored before."""
    if told(status, sweep, began):
        return status.state, status.why or ""
    # The launcher knows more if nothing could be stored, as on a full disk, or if a cluster ended the job.
    killed = status.why if status.state == runs.STALE and status.sweep == sweep else None
    reasons = [killed, outcome.reason if outcome is not None else None]
    return schema.FAILED, "; ".join(reason for reason in reasons if reason) or "never started"


def told(status: runs.RunStatus, sweep: str, began: float) -> bool:
    """Whether a run has stored how it ended in a sweep, or as a job of an earlier one for which this one has waited."""
    since = status.sweep == sweep or (status.heartbeat or 0.0) >= began
    return status.state in (schema.FAILED, schema.INTERRUPTED) and since
