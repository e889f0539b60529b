"""Runs' files that are damaged, foreign, absent or of other runs."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, Results, RunsWarning, load, load_options
from analysis.loading import compact, finding, reading
from atbptt.runs import schema
from tests.analysis.conftest import WriteRun
from tests.helpers.loading import ID, IDS, problems


def rewritten(change: Callable[[pa.Table], pa.Table], **options: object) -> Callable[[Path], None]:
    """Changes the table in a file."""
    return lambda path: pq.write_table(change(pq.ParquetFile(path).read()), path, **options)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def bit_flipped(path: Path) -> None:
    rewritten(lambda table: table, write_page_checksum=True, compression="none")(path)
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(1.2).tobytes())] ^= 1
    path.write_bytes(content)


def with_column(place: int, name: str, values: Callable[[int], pa.Array]) -> Callable[[Path], None]:
    """Replaces a column by values that are made for its number of rows."""
    return rewritten(lambda table: table.set_column(place, name, values(len(table))))


OF_ALL_FILES = [
    (truncated, "Parquet"),
    (emptied, "0 bytes"),
    (rewritten(lambda _: pa.table({"a": [1]})), f"lacks column {ID}"),
    (with_column(0, ID, lambda rows: pa.array([1] * rows)), f"{ID} is int64, must be string"),
    (into_folder, ""),
]
OF_METRICS = [
    (with_column(1, "step", lambda rows: pa.array([0.5] * rows)), "truncated"),
    (rewritten(lambda table: table.drop_columns(["value"])), "lacks column value"),
    (with_column(7, "metric", lambda rows: pa.array([None, *["K"] * (rows - 1)])), "column metric has nulls"),
    (with_column(7, "metric", lambda rows: pa.array([b"\xff"] * rows, pa.binary()).view(pa.string())), "UTF8"),
    (with_column(0, ID, lambda rows: pa.array([IDS[0]] * (rows - 1) + [IDS[1]])), f"{ID} {IDS[1]} is not in options"),
    (bit_flipped, "CRC"),
]


@pytest.mark.parametrize(
    ("file", "spoil", "reason"),
    [(file, *case) for file in (schema.OPTIONS, schema.METRICS) for case in OF_ALL_FILES]
    + [(schema.METRICS, *case) for case in OF_METRICS],
)
def test_a_broken_file_is_named_and_the_others_are_read(
    sweep: Path, file: str, spoil: Callable[[Path], None], reason: str
) -> None:
    path = sweep / "demo" / IDS[0] / file
    spoil(path)
    with pytest.warns(RunsWarning, match="1 left out") as caught:
        frame = load(sweep)
    assert sorted(frame[ID].unique()) == IDS[1:]
    (problem,) = problems(caught)
    assert problem.startswith(f"{path}: ")
    assert reason in problem


@pytest.mark.filterwarnings("error")
def test_what_does_not_fit_the_schema_is_cast_if_nothing_is_lost(sweep: Path) -> None:
    before = load(sweep)
    rewritten(lambda table: table.set_column(2, "epoch", table["epoch"].cast(pa.int64())))(
        sweep / "demo" / IDS[0] / schema.METRICS
    )
    pd.testing.assert_frame_equal(load(sweep), before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("compacted", [False, True])
def test_files_of_an_earlier_version_are_read_without_a_cast(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    """They lack the computing time; a cast of 10,000 files would take seconds."""
    before = load(sweep)
    if compacted:
        compact(Results(sweep), tmp_path / "compact")
        sweep = tmp_path / "compact"
    for path in sweep.rglob(schema.METRICS):
        rewritten(lambda table: table.drop_columns(["compute_seconds"]), store_schema=False)(path)
    monkeypatch.setattr(reading, "check_columns", lambda _, needed: needed == [ID] or pytest.fail("a cast"))
    pd.testing.assert_frame_equal(load(sweep), before.assign(compute_seconds=np.nan))


def test_a_missing_options_file_is_named_and_metrics_of_another_run_are_not_joined(sweep: Path) -> None:
    shutil.copy(sweep / "demo" / IDS[0] / schema.METRICS, sweep / "demo" / IDS[2] / schema.METRICS)
    with pytest.warns(RunsWarning, match=f"{ID} {IDS[0]} is not in options.parquet"):
        assert set(load(sweep)[ID]) == set(IDS[:2])
    (sweep / "demo" / IDS[0] / schema.OPTIONS).unlink()
    with pytest.warns(RunsWarning, match=r"options.parquet: no such file or directory; run skipped"):
        assert load_options(sweep)[ID].tolist() == IDS[1:]


def test_no_readable_run_is_an_error_that_says_why(sweep: Path) -> None:
    for run in IDS:
        emptied(sweep / "demo" / run / schema.OPTIONS)
    with pytest.raises(AnalysisError, match=r"none of 3 runs can be read: .*options.parquet: .*\(and 2 more\)"):
        load(sweep)


def test_files_of_other_runs_are_not_opened(sweep: Path) -> None:
    emptied(sweep / "demo" / IDS[0] / schema.METRICS)
    emptied(sweep / "demo" / IDS[1] / schema.OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(sweep, where={ID: IDS[2]})) == 13
    with pytest.warns(RunsWarning, match="1 left out"):
        assert len(load(sweep, where={"init": 0, "truncation": "adaptive"})) == 13


def test_many_runs_are_read_in_order(outputs: Path, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FOLDERS", 3)
    for number in range(10):
        values = {"valid_ppl": [float(number)] * (number % 3), f"K_{number}": [1.0]}
        write_run(f"{number:012d}", values if number != 5 else None, lr=float(number))
    emptied(outputs / "demo" / f"{7:012d}" / schema.METRICS)
    with pytest.warns(RunsWarning, match="1 left out"):
        frame = load(outputs)
    assert frame[ID].unique().tolist() == [f"{number:012d}" for number in range(10) if number not in (5, 7)]
    assert (frame["lr"] == frame[ID].astype(int)).all()
    ppl = frame[frame["metric"] == "valid_ppl"]
    assert (ppl["value"] == ppl["lr"]).all()
    assert frame["metric"].cat.categories.tolist() == sorted(frame["metric"].astype(str).unique())


def test_files_may_vanish_and_be_replaced_while_they_are_read(
    sweep: Path, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = finding.read_options

    def meanwhile(path: str) -> dict[str, object]:
        if IDS[0] in path:
            (sweep / "demo" / IDS[1] / schema.METRICS).unlink(missing_ok=True)
            if not (sweep / "demo" / "0000000000ff").exists():
                write_run("0000000000ff", {"valid_ppl": [1.0]})
        return real(path)

    monkeypatch.setattr(finding, "read_options", meanwhile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(load(sweep)[ID]) == {IDS[0], IDS[2]}
