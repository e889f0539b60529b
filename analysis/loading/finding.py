"""Paths -> runs with their options, each run of an experiment once."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atbptt.errors import AnalysisError, show
from atbptt.monitor import check_folders, walk_folders
from atbptt.runs import UNKNOWN, RunStatus, checked, read_run, reason
from atbptt.runs.schema import CONFIG, FINISHED, ID, METRICS, OPTIONS, STATUS

from .options import Row, Where, matching, read_options, values_asked
from .reading import UNREADABLE, Source, check_columns, open_parquet, read_rows

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
STATUSES = "status.parquet"  # in a compacted folder: a row per run, the fields of its `RunStatus`
STORED = {"state": FINISHED}  # unless that file says otherwise
OF = "@"  # between an id and its experiment


@dataclass(frozen=True)
class Folder:
    """A run directory, or a folder with the tables of many runs (see `compact`).

    Attributes:
        path: as the user would write it.
        compacted: whether it is the latter; it has neither a config nor a status file.
        rows: the options of its runs.
    """

    path: str
    compacted: bool
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Run:
    """One run: where its files are, its options, and its `experiment_id` in these files."""

    folder: Folder
    options: Row
    stored_id: str

    @property
    def id(self) -> str:
        """Its `experiment_id` in frames: `<id>@<experiment>` of a run that other experiments have too."""
        identity: str = self.options[ID]
        return identity

    @property
    def key(self) -> tuple[str, Any]:
        """What no two runs have in common: the id that the settings give, and the experiment."""
        return own_id(self.stored_id), self.options.get("name")


def own_id(shown: str) -> str:
    """The id that the settings give, of one in a frame: the name of the run's directory."""
    return shown.partition(OF)[0]


def find_runs(path: Paths, problems: list[str], where: Where | None = None) -> list[Run]:
    """The runs at or below some paths that have the options asked for; `problems` gains what is left out.

    Raises:
        AnalysisError: a path that does not exist, no run that can be read, or an option that no run has.
    """
    tops = as_paths(path)
    named = ", ".join(map(str, tops))
    found = list(folders_below(tops, problems))
    if not found:
        nothing = f"{named}: no runs here or below (directories with {OPTIONS} and {METRICS})"
        raise AnalysisError("; ".join([nothing, *problems[:1]]))
    where = dict(where or {})
    asked = values_asked(where[ID]) if ID in where else set()
    if asked:  # run directories are named by the id: others need not be opened
        names = {own_id(str(each)) for each in asked}
        by_name = [folder for folder in found if os.path.basename(folder.path) in names]
        found = by_name if {os.path.basename(folder.path) for folder in by_name} == names else found
    before = len(problems)
    runs = _told_apart(_each_once(_with_options(found, problems), problems))
    if not runs:
        new = problems[before:]
        more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
        raise AnalysisError(f"{named}: none of {len(found)} runs can be read: {new[0]}{more}")
    if ID in where:  # the id alone names the run in every experiment
        where[ID] = asked | {run.id for run in runs if run.key[0] in asked}
    return [runs[place] for place in matching([run.options for run in runs], where)]


def as_paths(path: Paths) -> list[Path]:
    """The folders that are given (AnalysisError for one that is none)."""
    given = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(each) for each in path]
    check_folders(given)
    return given


def folders_below(tops: Sequence[Path], problems: list[str]) -> Iterator[Folder]:
    """Run directories and compacted folders, without their options, in alphabetical order below each path."""
    seen: set[str] = set()  # resolved: a folder that is named twice is read once
    for top in tops:
        resolved = os.path.realpath(top)
        for directory, folders, files in walk_folders(top, problems):
            if {OPTIONS, METRICS, STATUS}.isdisjoint(files):
                continue
            folders.clear()  # runs are not nested
            key = resolved + directory[len(str(top)) :]
            if key not in seen:
                seen.add(key)
                yield Folder(os.path.normpath(directory), {CONFIG, STATUS}.isdisjoint(files))


def sources(runs: Iterable[Run]) -> list[Source]:
    """The folders of some runs, with the ids whose rows are to be read, in order."""
    chosen: dict[str, tuple[Folder, dict[str, str]]] = {}
    for run in runs:
        chosen.setdefault(run.folder.path, (run.folder, {}))[1][run.stored_id] = run.id
    return [Source(path, {row[ID] for row in folder.rows}, ids) for path, (folder, ids) in chosen.items()]


def statuses(runs: Sequence[Run], problems: list[str]) -> list[RunStatus]:
    """The state of each run: as observed, or in a compacted folder as stored (`finished` where nothing is)."""
    compacted = dict.fromkeys(run.folder.path for run in runs if run.folder.compacted)
    stored = {path: _stored(path, problems) for path in compacted}
    found = []
    for run in runs:
        folder = Path(run.folder.path)
        if run.folder.compacted:
            of_runs = stored[run.folder.path]
            state = {"state": UNKNOWN} if of_runs is None else of_runs.get(run.stored_id, STORED)
            found.append(RunStatus(folder, experiment_id=run.id, **state))
            continue
        found.append(replace(read_run(folder), experiment_id=run.id))
        if found[-1].state == UNKNOWN:
            problems.append(f"{folder}/{found[-1].why}; state unknown")
    return found


def _stored(folder: str, problems: list[str]) -> dict[str, Row] | None:
    """By run, the fields of its `RunStatus` beside directory and id; None if they cannot be read."""
    path = os.path.join(folder, STATUSES)
    try:
        table = read_rows(path)
        check_columns(table.schema, ["state"])
        rows = table.to_pylist()
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        problems.append(f"{path}: {reason(error)}; states unknown")
        return None
    found: dict[str, Row] = {}
    for row in rows:
        try:
            found[row[ID]] = checked(row)
        except ValueError as error:
            problems.append(f"{path}: run {show(row[ID])}: {error}; state unknown")
            found[row[ID]] = {"state": UNKNOWN}
    return found


def _with_options(found: Sequence[Folder], problems: list[str]) -> list[Run]:
    runs = []
    for folder in found:
        path = os.path.join(folder.path, OPTIONS)
        try:
            rows = read_options(path)
        except FileNotFoundError:
            problems.append(f"{path}: no such file or directory; run skipped")
        except UNREADABLE as error:
            problems.append(f"{path}: {reason(error)}; run skipped")
        else:
            whole = Folder(folder.path, folder.compacted, rows)
            runs += [Run(whole, row, row[ID]) for row in rows]
    return runs


def _each_once(runs: Sequence[Run], problems: list[str]) -> list[Run]:
    """Of runs with the same id and experiment one, in the place of the first: see `load`."""
    kept: dict[tuple[str, Any], Run] = {}
    for run in runs:
        first = kept.setdefault(run.key, run)
        if first is not run:
            kept[run.key] = _preferred(first, run, problems)
    return list(kept.values())


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs; those whose id several experiments have get ids of their own, which join the frames."""
    times = Counter(run.key[0] for run in runs)
    found = []
    for run in runs:
        own, experiment = run.key
        shown = f"{own}{OF}{experiment}" if times[own] > 1 else own
        found.append(run if shown == run.id else replace(run, options={**run.options, ID: shown}))
    return found


def _preferred(first: Run, second: Run, problems: list[str]) -> Run:
    if first.folder.compacted != second.folder.compacted:
        return second if first.folder.compacted else first
    if first.folder.compacted:
        problem = f"{second.folder.path}: has runs that are also in {first.folder.path}; kept those"
        if problem not in problems:
            problems.append(problem)
        return first
    lengths = _evaluations(first), _evaluations(second)
    kept, dropped = (second, first) if lengths[1] > lengths[0] else (first, second)
    why = "first" if lengths[0] == lengths[1] else f"one with more evaluations ({max(lengths)}, here {min(lengths)})"
    problems.append(f"{dropped.folder.path}: {ID} {kept.stored_id} is also in {kept.folder.path}; kept the {why}")
    return kept


def _evaluations(run: Run) -> int:
    try:
        with open_parquet(os.path.join(run.folder.path, METRICS)) as file:
            check_columns(file.schema_arrow, [ID, "step"])
            return len(file.read(columns=["step"])["step"].unique())
    except UNREADABLE:
        return 0
