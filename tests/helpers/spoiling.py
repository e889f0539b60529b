"""Two small runs, made once a session, of which the tests spoil a copy."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atbptt.runs import schema, tables

Spoil = Callable[[Path], object]  # of the directory of a run
CONTROL = "\x1b[2J\x07\r\x9b1A\u202e"  # clears a terminal, rings, goes back


def replaced(name: str, make: Callable[[Path], object]) -> Spoil:
    """Something else in the place of a file."""

    def spoil(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        make(run / name)

    return spoil


def several(*spoils: Spoil) -> Spoil:
    return lambda run: [spoil(run) for spoil in spoils]


def status(**entries: Any) -> Spoil:
    def spoil(run: Path) -> None:
        stored = json.loads((run / schema.STATUS).read_text())
        (run / schema.STATUS).write_text(json.dumps({**stored, **entries}))

    return spoil


def options(**values: Any) -> Spoil:
    """Options of the row and of its JSON; `truncation__K` is `truncation.K`."""

    def spoil(run: Path) -> None:
        given = {name.replace("__", "."): value for name, value in values.items()}
        row = tables.read_options(run / schema.OPTIONS) | given
        as_json = {schema.OPTIONS_JSON: json.dumps(row).encode()}
        known = {name: value for name, value in row.items() if name not in given}
        content = tables.serialised(pa.Table.from_pylist([known]), as_json)
        (run / schema.OPTIONS).write_bytes(content)

    return spoil


def column(file: str, name: str, value: Any) -> Spoil:
    """One value in all rows of a column."""

    def spoil(run: Path) -> None:
        table = pq.read_table(run / file)
        place = table.schema.get_field_index(name)
        field = table.schema.field(name)
        pq.write_table(table.set_column(place, field, pa.array([value] * len(table), field.type)), run / file)

    return spoil


def added(file: str, name: str, value: Any) -> Spoil:
    """A column with one value in all rows, in the place of one that has its name."""

    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / file)
        known = table.select([each for each in table.schema.names if each != name])
        changed = known.append_column(name, pa.array([value] * len(table)))
        pq.write_table(changed, folder / file, compression="zstd")

    return spoil


def repeated(file: str, times: int) -> Spoil:
    """The first row of a table, so many times."""

    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / file)
        rows = [pa.repeat(column[0], times) for column in table.columns]
        pq.write_table(pa.table(rows, schema=table.schema), folder / file, compression="zstd")

    return spoil


def another(number: int) -> Spoil:
    """A run of its own: another init, and another id in all its files."""
    identity = f"{number:012x}"

    def spoil(run: Path) -> None:
        for file in schema.SCHEMAS:
            column(file, schema.ID, identity)(run)
        row = tables.read_options(run / schema.OPTIONS) | {schema.ID: identity, "init": number}
        tables.write(run / schema.OPTIONS, tables.serialised_options(row))
        status(experiment_id=identity)(run)

    return spoil


def plan(**entries: Any) -> Spoil:
    """Entries of the plan of the sweep; those of its jobs with `job__` before them."""

    def spoil(run: Path) -> None:
        (file,) = (run.parents[1] / schema.SWEEPS).glob(f"*/{schema.PLAN}")
        stored = json.loads(file.read_text())
        stored |= {name: value for name, value in entries.items() if not name.startswith("job__")}
        of_jobs = {name.removeprefix("job__"): value for name, value in entries.items() if name.startswith("job__")}
        if of_jobs:
            stored["jobs"] = [job | of_jobs for job in stored["jobs"]]
        file.write_text(json.dumps(stored))

    return spoil


def search(
    run: Path,
    name: str,
    metric: str = "valid_ppl",
    space: Mapping[str, Any] | None = None,
    values: Sequence[float] = (1.5, 1.2),
    runs: Sequence[str] = (),
) -> None:
    """The record of a search that the run belongs to, by which all options have their first or lowest value."""
    space = {"lr": {"low": 0.1, "high": 30.0, "log": True}} if space is None else space
    params = {key: each["choices"][0] if "choices" in each else each.get("low", 0.0) for key, each in space.items()}
    own = [os.path.join("..", "..", run.parent.name, run.name), *runs][::-1]
    ended = {"params": params, "state": schema.FINISHED, "runs": own}
    trials = [{"number": number, "value": value, **ended} for number, value in enumerate(values)]
    record = {"definition": "0", "metric": metric, "command": [], "n_trials": 9, "space": space, "trials": trials}
    folder = run.parents[1] / schema.SWEEPS / name
    folder.mkdir()
    (folder / schema.TRIALS).write_text(json.dumps(record))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def sparse(path: Path, size: int = 8 * 10**12) -> None:
    """A file of so many bytes that takes no room on the disk."""
    with open(path, "wb") as file:
        file.truncate(size)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def copied(source: Path, target: Path) -> Path:
    """The runs as a new output folder; the directory of the first."""
    shutil.copytree(source, target)
    return sorted(path.parent for path in target.glob(f"*/*/{schema.STATUS}"))[0]


def entries(folder: Path) -> Mapping[str, int]:
    """All files and folders at and below a folder, and when they were changed."""
    return {str(path): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
