"""`python -m analysis compact`: one file for all runs of a folder, which is read in a tenth of the time of theirs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.loading.compacted import COMPACT, FILES, METRIC, RUNS, STATUSES, Compacted, Stamp, stamp_of
from analysis.loading.finding import Paths, Place, Runs, as_paths, places_below, rows_of, with_options
from analysis.loading.reading import UNREADABLE, coded
from analysis.loading.rows import ID, Rows, gather
from analysis.loading.states import run_status
from atbptt.errors import AnalysisError
from atbptt.runs import reason
from atbptt.runs.schema import METRICS, METRICS_SCHEMA
from atbptt.system import replacing

GROUP = 100_000  # rows that are decoded at a time
# Numbers that differ from row to row gain nothing by a dictionary or compression; clocks and names almost vanish.
SCATTERED = "value"


@dataclass(frozen=True)
class Compact:
    """A compact file that was written.

    Attributes:
        path: of the file.
        runs, rows: how many it holds.
        problems: a line for each run that is left to be read from its own files, and why.
    """

    path: Path
    runs: int
    rows: int
    problems: list[str]


def compact(paths: Paths) -> list[Compact]:
    """Write for each folder that has run directories in it a file with the options and metrics of all of them.

    The file is `compact.parquet` in that folder; `analysis.loading.compacted` says what is in it. It is read back and
    compared with what the runs' own files hold before it takes its name. Nothing is deleted. From then on `load` and
    `load_options` take a run from it unless a file of the run has changed since; done again, it is brought up to date.
    Runs whose directories were deleted afterwards stay in it, and in what is loaded.

    Arguments:
        paths: folders with runs below them, or run directories: of those, the folder that they are in.

    Returns:
        What was written, a file for each folder; none for a folder of which no run can be read.

    Raises:
        AnalysisError: a path that does not exist, or no runs there.
        StorageError: a file that cannot be written.
    """
    tops = as_paths(paths)
    problems: list[str] = []
    folders = dict.fromkeys(_parent(place.directory) for place in places_below(tops, problems))
    if not folders:
        raise AnalysisError(f"{', '.join(map(str, tops))}: no runs here or below; nothing to compact")
    written = [_compact(folder, problems if index == 0 else []) for index, folder in enumerate(folders)]
    return [one for one in written if one is not None]


def _parent(directory: str) -> str:
    if directory and os.path.dirname(directory):
        return os.path.dirname(directory)
    return os.curdir if directory not in ("", os.curdir, os.pardir) else os.path.dirname(os.path.abspath(directory))


def _compact(folder: str, problems: list[str]) -> Compact | None:
    path = os.path.join(folder, COMPACT)
    damaged = _damaged(path)
    places = [place for place in places_below([Path(folder)], problems) if _parent(place.directory) == folder]
    # Before the files are read: one that is replaced meanwhile has changed, as its time will tell.
    stamps = {place.directory: _stamps(place) for place in places}
    runs = with_options(places, problems)
    if not runs.ids:
        return None
    rows = rows_of(runs, METRICS, METRICS_SCHEMA, problems, {})
    runs, rows = _without_broken(runs, rows, stamps)
    if not runs.ids:
        return None
    content = {
        "directory": [os.path.basename(place.directory) for place in runs.places],
        "rows": _counts(runs, rows).tolist(),
        "metrics": list(rows.texts[METRIC]),
        "files": {
            name: [stamps[place.directory][number] for place in runs.places] for number, name in enumerate(FILES)
        },
        "options": {
            name: {"distinct": list(column.distinct), "codes": column.codes.tolist()}
            for name, column in runs.options.columns.items()
        },
    }
    with replacing(Path(path)) as temporary:
        _write(temporary, content, _statuses(runs), runs.ids, rows)
        _verify(temporary, path, content, rows)
        if damaged:
            problems.append(f"{path}: {damaged}; kept as {_set_aside(path)}")
    return Compact(Path(path), len(runs.ids), len(rows), list(dict.fromkeys(problems)))


def _damaged(path: str) -> str:
    """Why the compact file that there is cannot be read; empty if it can, or there is none."""
    try:
        whole = Compacted.open(path)
        whole.read(range(len(whole.names)), {})
    except FileNotFoundError:
        return ""
    except UNREADABLE as error:
        return reason(error)
    return ""


def _set_aside(path: str) -> str:
    stem, suffix = os.path.splitext(path)
    number = 1
    while os.path.exists(aside := f"{stem}.damaged-{number}{suffix}"):
        number += 1
    os.replace(path, aside)
    return aside


def _stamps(place: Place) -> list[Stamp]:
    if place.compacted is not None:
        return [place.compacted.files[name][place.index] for name in FILES]
    return [stamp_of(os.path.join(place.directory, name)) for name in FILES]


def _without_broken(runs: Runs, rows: Rows, stamps: dict[str, list[Stamp]]) -> tuple[Runs, Rows]:
    """Those whose metrics were read: of the others the reader shall tell each time, as it does without this file."""
    counts = _counts(runs, rows)
    there = np.array([stamps[place.directory][FILES.index(METRICS)] is not None for place in runs.places])
    kept = (counts > 0) | ~there
    if kept.all():
        return runs, rows
    rows.runs = (np.cumsum(kept) - 1).astype(np.int32)[rows.runs]
    return runs.select(np.flatnonzero(kept)), rows


def _counts(runs: Runs, rows: Rows) -> np.ndarray:
    return np.bincount(rows.runs, rows.counts, minlength=len(runs.ids)).astype(np.int64)


def _statuses(runs: Runs) -> list[dict[str, Any]]:
    statuses = []
    for place in runs.places:
        fields = asdict(run_status(place))
        del fields["directory"], fields["stamp"]
        statuses.append(fields)
    return statuses


def _write(path: Path, content: dict[str, Any], statuses: list[dict[str, Any]], ids: Sequence[str], rows: Rows) -> None:
    form = coded(METRICS_SCHEMA)
    plain = [name for name in form.names if name != SCATTERED]
    with pq.ParquetWriter(
        path,
        form,
        compression={name: "snappy" if name in plain else "none" for name in form.names},
        use_dictionary=plain,
        write_statistics=[ID],
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        for table in _tables(ids, rows, form):
            writer.write_table(table, row_group_size=GROUP)
        writer.add_key_value_metadata({RUNS: json.dumps(content).encode(), STATUSES: json.dumps(statuses).encode()})


def _tables(ids: Sequence[str], rows: Rows, form: pa.Schema) -> Iterator[pa.Table]:
    run_of_row = np.repeat(rows.runs, rows.counts).astype(np.int32)
    for first in range(0, len(run_of_row), GROUP):
        these = slice(first, first + GROUP)
        runs = run_of_row[these]
        arrays = []
        for name in form.names:
            if name == ID:
                part = ids[runs[0] : runs[-1] + 1]
                arrays.append(pa.DictionaryArray.from_arrays(runs - runs[0], pa.array(part, pa.string())))
            elif name in rows.texts:
                codes = rows.columns[name][these].astype(np.int32)
                arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array(rows.texts[name], pa.string())))
            else:
                arrays.append(pa.array(rows.columns[name][these]))
        yield pa.table(arrays, schema=form)


def _verify(temporary: Path, path: str, content: dict[str, Any], rows: Rows) -> None:
    """Raise an AnalysisError unless the file, read as `load` will, has every bit of what the sources had."""
    whole = Compacted.open(str(temporary))
    stored = json.loads(pq.read_metadata(temporary).metadata[RUNS])
    back = gather(whole.read(range(len(whole.names)), {}), METRICS_SCHEMA)
    same = json.dumps(stored) == json.dumps(content) and back.texts == rows.texts
    same = same and np.array_equal(np.bincount(back.runs, back.counts), np.bincount(rows.runs, rows.counts))
    for name, column in rows.columns.items():
        same = same and back.columns[name].tobytes() == column.tobytes()
    if not same:
        raise AnalysisError(f"{path}: what was written is not what was read back; nothing has changed")
