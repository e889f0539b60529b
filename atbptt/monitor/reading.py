"""Sweeps and the states of their runs, read from the plans and status files below some folders."""

import errno
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from atbptt.errors import AnalysisError, in_one_line, line_of, shortened, show
from atbptt.runs import BUDGET, LATEST, UNKNOWN, WAITING, RunStatus, read_plan, read_run, reason
from atbptt.runs.schema import CONFIG, FINISHED, LOCK, METRICS, OPTIONS, PLAN, RUNNING, STATUS, SWEEPS
from atbptt.system import is_utf8, locks

PARENTS = 2  # the output folder is so far above its runs
OF_RUNS = {CONFIG, STATUS, OPTIONS, METRICS}  # a folder with any of them is a run directory, or compacted
LINE_LENGTH = 20_000  # characters of a command or a label: of our own, none is longer


@dataclass(frozen=True)
class Run:
    """A run in a sweep."""

    label: str  # the overrides that tell it from the sweep's other runs; its path if there is no sweep
    last: RunStatus  # of its last attempt
    status: RunStatus  # in the sweep: `last`, or waiting (see `status_in_sweep`)


@dataclass(frozen=True)
class Sweep:
    """A sweep, with those of its runs that are at or below the paths."""

    name: str  # of its folder below `.sweeps`
    command: tuple[str, ...]  # what was typed, by argument
    host: str  # of the launching process, as the pid
    pid: int
    started: float  # unix time
    launching: bool | None  # whether that process still runs; None if the file system does not say
    runs: tuple[Run, ...]  # in the order of the plan

    @property
    def typed(self) -> str:
        """The command, ready to type again."""
        python = ("python",) if self.command and self.command[0].endswith(".py") else ()
        return shortened(shlex.join((*python, *self.command)), LINE_LENGTH)


@dataclass(frozen=True)
class Report:
    """What is found at and below the paths."""

    sweeps: tuple[Sweep, ...]  # the oldest first, without ended ones whose runs all belong to a later sweep
    unplanned: tuple[Run, ...]  # runs that no plan names
    problems: tuple[str, ...]  # a line for each file or folder that cannot be read

    @property
    def runs(self) -> list[Run]:
        """Every run once, with its label in the latest sweep."""
        # A compacted folder has many runs.
        each = (*self.unplanned, *(run for sweep in self.sweeps for run in sweep.runs))
        return list({(run.last.directory, run.last.experiment_id): run for run in each}.values())

    @property
    def pending(self) -> bool:
        """Whether a run is running, or waits for a launching process that still runs."""
        waiting = any(run.status.state == WAITING for sweep in self.sweeps if sweep.launching for run in sweep.runs)
        return waiting or any(run.last.state == RUNNING for run in self.runs)


def status_in_sweep(
    last: RunStatus,
    sweep: str,
    started: float,
    launching: bool,
    rerun: bool,
    budget: Sequence[float | None],
) -> RunStatus:
    """The status of a run in a sweep: that of its `last` attempt, or waiting for another one.

    A finished run waits if its `budget` in the sweep (see `RunStatus.reached`) is larger. While this sweep, begun at
    the unix time `started`, is `launching`, so does one that an earlier sweep left unfinished, or any of an earlier
    sweep if this is a `rerun`.
    """
    before = launching and last.sweep != sweep and (last.heartbeat or 0.0) < started
    if last.state == FINISHED:
        ahead = not last.reached(*budget) or (rerun and before)
    elif last.state in (RUNNING, WAITING):
        ahead = False
    else:
        ahead = before
    return replace(last, state=WAITING, why=None) if ahead else last


class _Plan(NamedTuple):
    sweep: Sweep  # without its runs
    rerun: bool  # whether its runs begin anew
    # Label and budget of those at or below the paths, by the run's directory, resolved.
    jobs: dict[str, tuple[str, list[float | None]]]


class Reader:
    """Reads the runs below the paths, and the sweeps there and up to `PARENTS` folders above.

    What cannot have changed is read once, however often `read` is called.

    Raises:
        AnalysisError: a path is no folder.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        check_folders(paths)
        self._tops = {os.path.realpath(path): path for path in paths}
        self._found: dict[str, None] = {}  # run directories, resolved
        self._plans: dict[str, _Plan] = {}  # by the sweep's folder
        self._known: dict[str, RunStatus] = {}

    def read(self) -> Report:
        """The sweeps and runs as they are now (AnalysisError if there are none)."""
        problems: list[str] = []
        before, self._plans = self._plans, {}
        for folder in dict.fromkeys(self._find(problems)):
            try:
                self._plans[folder] = before[folder] if folder in before else self._plan(folder)
            except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
                why = f"lacks {error}" if isinstance(error, KeyError) else reason(error)
                problems.append(f"{folder}/{PLAN}: {why}; sweep skipped")
        planned = {key for plan in self._plans.values() for key in plan.jobs}
        statuses = {key: self._status(key) for key in dict.fromkeys([*self._found, *sorted(planned)])}
        loose = [key for key in self._found if key not in planned and os.path.isdir(key)]
        if not planned and not loose:
            where = ", ".join(map(str, self._tops.values()))
            nothing = f"{where}: no run directories here or below, and no sweep that plans any"
            raise AnalysisError("; ".join([nothing, *problems[:1]]))
        unknown = [status for status in statuses.values() if status.state == UNKNOWN]
        problems += [f"{status.directory}/{status.why}; state unknown" for status in unknown]
        launching = {folder: _launching(folder) for folder in self._plans}
        sweeps = []
        for folder in _not_superseded(self._plans, launching):
            sweep, rerun, jobs = self._plans[folder]
            known = sweep.name, sweep.started, bool(launching[folder]), rerun
            runs = []
            for key, (label, budget) in jobs.items():
                runs.append(Run(label, statuses[key], status_in_sweep(statuses[key], *known, budget)))
            sweeps.append(replace(sweep, launching=launching[folder], runs=tuple(runs)))
        unplanned = tuple(Run(self._label(key), statuses[key], statuses[key]) for key in loose)
        return Report(tuple(sweeps), unplanned, tuple(problems))

    def _find(self, problems: list[str]) -> Iterator[str]:
        """Yield folders of sweeps, and note run directories; one that is noted already is not listed again."""
        for top, path in self._tops.items():
            above = top
            for _ in range(PARENTS):
                above = os.path.dirname(above)
                yield from sweeps_with(PLAN, above, problems)
            for shown, folders, files in walk_folders(path, problems):
                directory = top + shown[len(str(path)) :]
                if {CONFIG, STATUS} & {*files}:
                    self._found[directory] = None
                    folders.clear()  # runs are not nested
                    continue
                yield from sweeps_with(PLAN, directory, problems)
                folders[:] = [name for name in folders if os.path.join(directory, name) not in self._found]

    def _plan(self, folder: str) -> _Plan:
        content = read_plan(Path(folder))
        jobs = {}
        for job in content["jobs"]:
            key = os.path.normpath(os.path.join(folder, job["path"]))
            if not is_utf8(key) or "\0" in key:
                raise ValueError(f"path (={show(job['path'])}) must be that of a run")
            budget = [job["settings"].get(name) for name in BUDGET]
            if self._top(key) is not None:
                jobs[key] = _line(job["label"]), [None if value is None else float(value) for value in budget]
        command = tuple(map(_line, content["command"]))
        launched = _line(content["host"]), int(content["pid"]), float(content["started"])
        if not 0 <= launched[2] <= LATEST:
            raise ValueError(f"started (={launched[2]:g}) must be a time in seconds")
        sweep = Sweep(os.path.basename(folder), command, *launched, None, ())
        return _Plan(sweep, bool(content.get("rerun")), jobs)

    def _status(self, key: str) -> RunStatus:
        known = self._known.get(key)
        top = self._top(key)
        assert top is not None
        directory = self._tops[top] / os.path.relpath(key, top)  # as the user would name it
        status = self._known[key] = read_run(directory, known)
        return status

    def _label(self, key: str) -> str:
        top = self._top(key)
        return os.path.basename(key) if key == top else os.path.relpath(key, top)

    def _top(self, key: str) -> str | None:
        """The path, resolved, at or below which a directory is."""
        return next((top for top in self._tops if key == top or key.startswith(top.rstrip("/") + "/")), None)


def check_folders(paths: Sequence[Path]) -> None:
    """Raise an `AnalysisError` unless all paths are folders."""
    for path in paths:
        if not is_utf8(path):
            raise AnalysisError(f"{path}: is no UTF-8; rename it")
        try:
            kind = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError | ValueError) and not path.is_symlink()
            raise AnalysisError(f"{path}: {'does not exist' if missing else _unfollowed(path)}") from error
        if not stat.S_ISDIR(kind):
            raise AnalysisError(f"{path}: is a file; give a run directory or a folder of them")


def walk_folders(top: str | Path, problems: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, without hidden folders and links.

    `problems` gains a line for each folder that cannot be read or written down, and for each link to a folder or
    nowhere, but for those within a run's directory.
    """

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: {reason(error)}; folder skipped")

    for directory, folders, files in os.walk(top, onerror=unreadable):
        seen = sorted(name for name in folders if not name.startswith("."))
        folders[:] = (name for name in seen if is_utf8(name) and "\n" not in name)
        odd = (in_one_line(os.path.join(directory, name)) for name in {*seen}.difference(folders))
        problems += [f"{path}: its name is no UTF-8, or no line; folder skipped" for path in sorted(odd)]
        if OF_RUNS.isdisjoint(files):
            others = sorted(name for name in files if not name.startswith(".") and is_utf8(name))
            paths = (os.path.join(directory, name) for name in (*folders, *others))
            links = (path for path in paths if os.path.islink(path) and not os.path.isfile(path))
            problems += [f"{in_one_line(path)}: {_unfollowed(path)}; link skipped" for path in links]
        yield directory, folders, files


def _unfollowed(path: str | Path) -> str:
    """What a link leads to that is not followed, or why a path cannot be looked at."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return "is a link to nowhere"
    except OSError as error:
        return "is a link that leads to itself" if error.errno == errno.ELOOP else reason(error)
    return f"is a link to {show(os.path.realpath(path))}, and links are not followed"


def sweeps_with(file: str, folder: str, problems: list[str]) -> list[str]:
    """The folders of sweeps in an output folder that have a file, or may have it; `problems` gains why none is seen."""
    sweeps = os.path.join(folder, SWEEPS)
    try:
        names = sorted(os.listdir(sweeps))
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{sweeps}: {reason(error)}; its sweeps skipped")
        return []
    return [sweep for name in names if _may_have(file, sweep := os.path.join(sweeps, name))]


def _may_have(file: str, folder: str) -> bool:
    try:
        os.lstat(os.path.join(folder, file))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # to read it will say why
        pass
    return True


def _line(text: object) -> str:
    return line_of(str(text), LINE_LENGTH)


def _launching(folder: str) -> bool | None:
    try:
        return locks.is_held(Path(folder, LOCK))
    except OSError:
        return None


def _not_superseded(plans: dict[str, _Plan], launching: dict[str, bool | None]) -> list[str]:
    """The sweeps' folders, the oldest first, without ended ones whose runs all belong to a later or launched sweep."""
    order = sorted((folder for folder in plans if plans[folder].jobs), key=lambda f: (plans[f].sweep.started, f))
    ranked = sorted(order, key=lambda folder: bool(launching[folder]))
    taken = {
        folder
        for i, folder in enumerate(ranked)
        if not launching[folder] and any(plans[folder].jobs.keys() <= plans[f].jobs.keys() for f in ranked[i + 1 :])
    }
    return [folder for folder in order if folder not in taken]
