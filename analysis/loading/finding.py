"""Paths -> runs with their options, each `experiment_id` once; what cannot be read is noted."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.loading.compacted import COMPACT, Compacted
from analysis.loading.options import Options, Where, asked_for, read_options
from analysis.loading.reading import FILES, UNREADABLE, read_rows, read_table
from analysis.loading.rows import ID, Choice, Rows, gather
from atbptt.errors import AnalysisError
from atbptt.runs import reason
from atbptt.runs.schema import METRICS, METRICS_SCHEMA, OPTIONS, STATUS

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is: its directory, and where it stands in a compact file if it is as it was then."""

    directory: str
    compacted: Compacted | None = None
    index: int = -1


@dataclass(frozen=True)
class Runs:
    """Some runs, in order.

    Attributes:
        places, ids: by run.
        options: of them.
    """

    places: Sequence[Place]
    ids: Sequence[str]
    options: Options

    def select(self, chosen: np.ndarray) -> Runs:
        """Those at these places."""
        indexes = chosen.tolist()
        return Runs([self.places[i] for i in indexes], [self.ids[i] for i in indexes], self.options.select(chosen))


def find_runs(path: Paths, problems: list[str], where: Where | None = None) -> Runs:
    """The runs at or below some paths that have the options asked for; `problems` gains what is left out.

    Raises:
        AnalysisError: a path that does not exist, no run that can be read, or an option that no run has.
    """
    tops = as_paths(path)
    found = list(places_below(tops, problems))
    named = ", ".join(map(str, tops))
    if not found:
        raise AnalysisError(f"{named}: no runs (directories with {OPTIONS} and {METRICS}) here or below")
    where = where or {}
    runs = _by_name(found, where) if ID in where else None
    if runs is None:
        before = len(problems)
        runs = with_options(found, problems)
        if not runs.ids:
            new = problems[before:]
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            raise AnalysisError(f"{named}: none of {len(found)} runs can be read: {new[0]}{more}")
    runs = _each_once(runs, problems)
    return runs.select(np.flatnonzero(runs.options.matching(where))) if where else runs


def rows_of(runs: Runs, file: str, schema: pa.Schema, problems: list[str], wanted: Choice) -> Rows:
    """The rows of one long table of these runs, in their order; `problems` gains what is left out."""
    parts: list[Rows] = []
    loose: Sequence[int] = range(len(runs.ids))
    if file == METRICS:
        parts, loose = _compacted_rows(runs, wanted, problems)
    directories, ids = [runs.places[run].directory for run in loose], [runs.ids[run] for run in loose]

    def own() -> Iterator[Rows]:
        for rows in read_rows(directories, ids, file, schema, problems, wanted):
            rows.runs = np.asarray(loose, np.int32)[rows.runs]
            yield rows

    return gather(itertools.chain(parts, own()), schema)


def _compacted_rows(runs: Runs, wanted: Choice, problems: list[str]) -> tuple[list[Rows], Sequence[int]]:
    """Rows from compact files, and the runs that are to be read from their own."""
    files: dict[Compacted, list[int]] = {}
    loose: list[int] = []
    for run, place in enumerate(runs.places):
        (loose if place.compacted is None else files.setdefault(place.compacted, [])).append(run)
    parts: list[Rows] = []
    for compacted, members in files.items():
        indexes = [runs.places[run].index for run in members]
        places = np.zeros(len(compacted.names), np.int32)
        places[indexes] = members
        try:
            found = compacted.read(indexes, wanted)
        except UNREADABLE as error:
            problems.append(f"{compacted.path}: {reason(error)}; runs are read from their own files")
            loose += members
            continue
        for rows in found:
            rows.runs = places[rows.runs]
        parts += found
    return parts, sorted(loose)


def as_paths(path: Paths) -> list[Path]:
    """The folders that are given (AnalysisError for one that is none)."""
    given = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(each) for each in path]
    for top in given:
        if not top.is_dir():
            what = "is a file; give a run directory or a folder of them" if top.exists() else "does not exist"
            raise AnalysisError(f"{top}: {what}")
    return given


def places_below(tops: Sequence[Path], problems: list[str]) -> Iterator[Place]:
    seen: set[str] = set()  # resolved: a folder that is named twice is read once
    for top in tops:
        resolved = os.path.realpath(top)
        shown = "" if str(top) == "." else str(top)
        for place in _below(shown, problems):
            key = resolved + place.directory[len(shown) :] if shown else os.path.join(resolved, place.directory)
            if key not in seen:
                seen.add(key)
                yield place


def _below(folder: str, problems: list[str]) -> Iterator[Place]:
    try:
        with os.scandir(folder or ".") as entries:
            files, folders = set(), []
            for entry in entries:
                if not entry.is_dir():
                    files.add(entry.name)
                elif not entry.name.startswith(".") and not entry.is_symlink():
                    folders.append(entry.name)
    except OSError as error:
        problems.append(f"{folder}: {reason(error)}; folder skipped")
        return
    if {OPTIONS, METRICS, STATUS} & files:
        yield Place(folder)  # runs are not nested
        return
    compacted: dict[str, Place] = {}
    if COMPACT in files:
        compacted = _compacted(folder, problems)
    for name in sorted({*folders, *compacted}):
        if name in compacted:
            yield compacted[name]
        else:
            yield from _below(os.path.join(folder, name), problems)


def _compacted(folder: str, problems: list[str]) -> dict[str, Place]:
    """The runs of a folder's compact file, by the directory's name, but those that have changed since."""
    path = os.path.join(folder, COMPACT)
    try:
        whole = Compacted.open(path)
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        problems.append(f"{path}: {reason(error)}; runs are read from their own files")
        return {}
    return {
        name: Place(os.path.join(folder, name), whole, index)
        for index, name in enumerate(whole.names)
        if whole.holds(index, folder)
    }


def _by_name(found: Sequence[Place], where: Where) -> Runs | None:
    """Runs by the names of their directories, without the options of all others; None if they are not all there."""
    asked = asked_for(where[ID])
    runs = with_options([place for place in found if os.path.basename(place.directory) in asked], [])
    return runs if {*runs.ids} == asked else None


def with_options(found: Sequence[Place], problems: list[str]) -> Runs:
    """The runs whose options can be read, in order."""
    files: dict[Compacted, list[int]] = {}
    loose: list[int] = []
    for index, place in enumerate(found):
        (loose if place.compacted is None else files.setdefault(place.compacted, [])).append(index)
    parts: list[Options] = []
    order: list[int] = []
    for compacted, indexes in files.items():
        parts.append(compacted.options.select(np.array([found[index].index for index in indexes])))
        order += indexes
    own, there = _read([found[index].directory for index in loose], problems)
    parts += own
    order += [loose[index] for index in there]
    whole = Options.concat(parts).select(np.argsort(np.array(order, int)))
    if not order:
        return Runs([], [], whole)
    ids = whole.columns[ID]
    return Runs([found[index] for index in sorted(order)], [ids.distinct[code] for code in ids.codes.tolist()], whole)


def _read(directories: Sequence[str], problems: list[str]) -> tuple[list[Options], list[int]]:
    """The options of the runs in these directories, some at a time, and the places of those that can be read."""
    parts: list[Options] = []
    there: list[int] = []
    for first in range(0, len(directories), FILES):  # a hundred mappings are encoded fast, ten thousand are not
        rows: list[Mapping[str, Any]] = []
        for index, directory in enumerate(directories[first : first + FILES], first):
            path = os.path.join(directory, OPTIONS)
            try:
                rows.append(read_options(path))
                there.append(index)
            except UNREADABLE as error:
                problems.append(f"{path}: {reason(error)}; run skipped")
        parts.append(Options.of(rows))
    return parts, there


def _each_once(runs: Runs, problems: list[str]) -> Runs:
    """Of runs with the same id, the one with more evaluations, in the place of the first."""
    if len({*runs.ids}) == len(runs.ids):
        return runs
    kept: dict[str, int] = {}
    for index, run in enumerate(runs.ids):
        kept[run] = _longer(runs, kept[run], index, problems) if run in kept else index
    return runs.select(np.array(list(kept.values())))


def _longer(runs: Runs, first: int, second: int, problems: list[str]) -> int:
    lengths = {index: _evaluations(runs, index) for index in (first, second)}
    kept, dropped = (first, second) if lengths[first] >= lengths[second] else (second, first)
    more = lengths[kept] > lengths[dropped]
    why = f"one with more evaluations ({lengths[kept]}, here {lengths[dropped]})" if more else "first"
    problems.append(
        f"{runs.places[dropped].directory}: {ID} {runs.ids[kept]} is also in {runs.places[kept].directory}; "
        f"kept the {why}"
    )
    return kept


def _evaluations(runs: Runs, index: int) -> int:
    place = runs.places[index]
    try:
        if place.compacted is not None:
            return len({step for rows in place.compacted.read([place.index], {}) for step in rows.columns["step"]})
        return len(read_table(os.path.join(place.directory, METRICS), METRICS_SCHEMA)["step"].unique())
    except UNREADABLE:
        return 0
