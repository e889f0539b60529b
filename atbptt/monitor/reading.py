"""Sweeps and the state of their runs, read from the plans that the launching processes left."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atbptt.errors import AnalysisError
from atbptt.runs import UNKNOWN, WAITING, RunStatus, read_run, reason
from atbptt.runs.schema import CONFIG, FINISHED, LOCK, PLAN, RUNNING, STATUS, SWEEPS
from atbptt.system import locks

PARENTS = 2  # the output folder is so far above its runs


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        label: what tells it from the sweep's other runs; its path where there is no sweep.
        last: the state of its last attempt.
        status: its state in the sweep: `last`, or waiting if the sweep has yet to come to it.
    """

    label: str
    last: RunStatus
    status: RunStatus


@dataclass(frozen=True)
class Sweep:
    """A sweep, with those of its runs that were asked for.

    Attributes:
        name: its folder's name below `.sweeps`.
        command: what was typed, by argument.
        host, pid: of the launching process.
        started: unix time.
        launching: whether that process still runs; None where the file system does not say.
        runs: in the order of the plan.
    """

    name: str
    command: tuple[str, ...]
    host: str
    pid: int
    started: float
    launching: bool | None
    runs: tuple[Run, ...]

    @property
    def typed(self) -> str:
        """The command, ready to be typed again."""
        python = ("python",) if self.command and self.command[0].endswith(".py") else ()
        return shlex.join((*python, *self.command))


@dataclass(frozen=True)
class Report:
    """What is found at and below the paths.

    Attributes:
        sweeps: the oldest first; not those that have ended and whose runs all belong to a later one.
        unplanned: runs that no plan names.
        problems: a line for each file or folder that cannot be read.
    """

    sweeps: tuple[Sweep, ...]
    unplanned: tuple[Run, ...]
    problems: tuple[str, ...]

    @property
    def runs(self) -> list[Run]:
        """Every run once, with the label that the latest sweep has for it."""
        found = {run.last.directory: run for run in self.unplanned}
        found.update((run.last.directory, run) for sweep in self.sweeps for run in sweep.runs)
        return list(found.values())

    @property
    def pending(self) -> bool:
        """Whether a run is running, or waits for a launching process that still runs."""
        waiting = any(run.status.state == WAITING for sweep in self.sweeps if sweep.launching for run in sweep.runs)
        return waiting or any(run.last.state == RUNNING for run in self.runs)


class Reader:
    """Reads what is at and below some paths, as often as asked; again only what can have changed.

    Arguments:
        paths: run directories, or folders with runs below them. Their sweeps are looked for there too, and in
            the folders up to `PARENTS` above.

    Raises:
        AnalysisError: a path that is no folder.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.is_dir():
                what = "is a file; give a run directory or a folder of them" if path.exists() else "does not exist"
                raise AnalysisError(f"{path}: {what}")
        self._tops = {os.path.realpath(path): path for path in paths}
        self._found: dict[str, None] = {}  # run directories, resolved
        self._plans: dict[str, _Plan] = {}  # by the sweep's folder
        self._known: dict[str, RunStatus] = {}

    def read(self) -> Report:
        """What is there now.

        Raises:
            AnalysisError: nothing is.
        """
        problems: list[str] = []
        self._read_plans(self._find(problems), problems)
        planned = {job.key for plan in self._plans.values() for job in plan.jobs}
        statuses = {key: self._status(key) for key in dict.fromkeys([*self._found, *sorted(planned)])}
        loose = [key for key in self._found if key not in planned and os.path.isdir(key)]
        if not planned and not loose:
            where = ", ".join(map(str, self._tops.values()))
            raise AnalysisError(f"{where}: no runs here or below, and no sweep that plans any")
        unknown = [status for status in statuses.values() if status.state == UNKNOWN]
        problems += [f"{status.directory}/{status.why}; state unknown" for status in unknown]
        launching = {folder: _launching(folder) for folder in self._plans}
        return Report(
            tuple(
                _sweep(folder, self._plans[folder], launching[folder], statuses)
                for folder in _not_superseded(self._plans, launching)
            ),
            tuple(Run(_label(key, self._tops), statuses[key], statuses[key]) for key in loose),
            tuple(problems),
        )

    def _find(self, problems: list[str]) -> Iterable[str]:
        """Folders of sweeps; notes run directories. One that was noted before is not listed again."""

        def unreadable(error: OSError) -> None:
            problems.append(f"{error.filename}: {reason(error)}; folder skipped")

        sweeps: dict[str, None] = {}
        for top in self._tops:
            above = top
            for _ in range(PARENTS):
                above = os.path.dirname(above)
                sweeps.update(dict.fromkeys(_sweeps_in(above)))
            for directory, folders, files in os.walk(top, onerror=unreadable):
                if SWEEPS in folders:
                    sweeps.update(dict.fromkeys(_sweeps_in(directory)))
                if {CONFIG, STATUS} & {*files}:
                    self._found[directory] = None
                    folders.clear()  # runs are not nested
                folders[:] = sorted(
                    name for name in folders if name[0] != "." and os.path.join(directory, name) not in self._found
                )
        return sweeps

    def _read_plans(self, folders: Iterable[str], problems: list[str]) -> None:
        """Plans that have a run at or below the paths, by their folder."""
        before, self._plans = self._plans, {}
        for folder in folders:
            path = os.path.join(folder, PLAN)
            try:
                stat = os.stat(path)
                stamp = stat.st_mtime_ns, stat.st_size
                known = before.get(folder)
                plan = known if known and known.stamp == stamp else _plan(path, stamp, self._tops)
            except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                why = f"lacks {error}" if isinstance(error, KeyError) else reason(error)
                problems.append(f"{path}: {why}; sweep skipped")
            else:
                self._plans[folder] = plan

    def _status(self, key: str) -> RunStatus:
        known = self._known.get(key)
        directory = _shown(key, self._tops) if known is None else known.directory
        status = self._known[key] = read_run(directory, known)
        return status


@dataclass(frozen=True)
class _Job:
    label: str
    key: str  # the run's directory, resolved
    epochs: float | None
    seconds: float | None


@dataclass(frozen=True)
class _Plan:
    stamp: tuple[int, int]
    command: tuple[str, ...]
    host: str
    pid: int
    started: float
    jobs: tuple[_Job, ...]  # those at or below the paths


def _sweeps_in(folder: str) -> list[str]:
    sweeps = os.path.join(folder, SWEEPS)
    try:
        names = sorted(os.listdir(sweeps))
    except OSError:
        return []
    return [os.path.join(sweeps, name) for name in names if os.path.exists(os.path.join(sweeps, name, PLAN))]


def _plan(path: str, stamp: tuple[int, int], tops: dict[str, Path]) -> _Plan:
    content = json.loads(Path(path).read_bytes())
    jobs = []
    for job in content["jobs"]:
        key = os.path.normpath(os.path.join(os.path.dirname(path), job["path"]))
        budget = [job["settings"].get(name) for name in ("epochs", "seconds")]
        epochs, seconds = (None if value is None else float(value) for value in budget)
        if any(_is_below(key, top) for top in tops):
            jobs.append(_Job(str(job["label"]), key, epochs, seconds))
    command = tuple(map(str, content["command"]))
    return _Plan(stamp, command, str(content["host"]), int(content["pid"]), float(content["started"]), tuple(jobs))


def _sweep(folder: str, plan: _Plan, launching: bool | None, statuses: dict[str, RunStatus]) -> Sweep:
    name = os.path.basename(folder)
    runs = []
    for job in plan.jobs:
        last = statuses[job.key]
        if last.state == FINISHED:
            ahead = not last.reached(job.epochs, job.seconds)
        elif last.state in (RUNNING, WAITING):
            ahead = False
        else:  # what an earlier sweep left is tried again
            ahead = bool(launching) and last.sweep != name and (last.heartbeat or 0.0) < plan.started
        runs.append(Run(job.label, last, replace(last, state=WAITING, why=None) if ahead else last))
    return Sweep(name, plan.command, plan.host, plan.pid, plan.started, launching, tuple(runs))


def _launching(folder: str) -> bool | None:
    try:
        return locks.is_held(Path(folder, LOCK))
    except OSError:
        return None


def _not_superseded(plans: dict[str, _Plan], launching: dict[str, bool | None]) -> list[str]:
    """The sweeps' folders, the oldest first, without those that a later one has taken over.

    The same command again takes over. A sweep that is still launched is not over; beside it, an ended one is.
    """
    order = sorted((folder for folder in plans if plans[folder].jobs), key=lambda f: (plans[f].started, f))
    ranked = sorted(order, key=lambda folder: bool(launching[folder]))
    keys = {folder: {job.key for job in plans[folder].jobs} for folder in ranked}
    taken = {
        folder
        for i, folder in enumerate(ranked)
        if not launching[folder] and any(keys[folder] <= keys[later] for later in ranked[i + 1 :])
    }
    return [folder for folder in order if folder not in taken]


def _is_below(key: str, top: str) -> bool:
    return key == top or key.startswith(top.rstrip("/") + "/")


def _shown(key: str, tops: dict[str, Path]) -> Path:
    """A directory as the user would name it."""
    top = next(top for top in tops if _is_below(key, top))
    return tops[top] / os.path.relpath(key, top)


def _label(key: str, tops: dict[str, Path]) -> str:
    top = next(top for top in tops if _is_below(key, top))
    return os.path.basename(key) if key == top else os.path.relpath(key, top)
