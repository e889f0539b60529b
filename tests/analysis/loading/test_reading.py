"""Runs' files that are damaged, foreign, absent or of other runs."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, RunsWarning, load, load_options
from analysis.loading import finding, reading
from atbptt.runs import schema
from tests.helpers.loading import ID, IDS, problems

WriteRun = Callable[..., Path]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def number_as_id(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    pq.write_table(table.set_column(0, "experiment_id", pa.array([1] * len(table))), path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("file", [schema.OPTIONS, schema.METRICS])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncate, "Parquet"),
        (empty, "0 bytes"),
        (foreign, "lacks column experiment_id"),
        (number_as_id, "experiment_id is int64, must be string"),
        (folder, ""),
    ],
)
def test_a_broken_file_is_named_and_the_others_are_read(
    sweep: Path, file: str, spoil: Callable[[Path], None], reason: str
) -> None:
    path = sweep / "demo" / IDS[0] / file
    spoil(path)
    with pytest.warns(RunsWarning, match="1 left out") as caught:
        frame = load(sweep)
    assert sorted(frame["experiment_id"].unique()) == IDS[1:]
    (problem,) = problems(caught)
    assert problem.startswith(f"{path}: ")
    assert reason in problem


def test_a_missing_options_file_is_named(sweep: Path) -> None:
    (sweep / "demo" / IDS[0] / schema.OPTIONS).unlink()
    with pytest.warns(RunsWarning, match=r"options.parquet: no such file or directory; run skipped"):
        assert load_options(sweep)["experiment_id"].tolist() == IDS[1:]


def test_metrics_of_another_run_are_not_joined(sweep: Path) -> None:
    shutil.copy(sweep / "demo" / IDS[0] / schema.METRICS, sweep / "demo" / IDS[2] / schema.METRICS)
    with pytest.warns(RunsWarning, match=f"experiment_id {IDS[0]} is not in options.parquet"):
        frame = load(sweep)
    assert set(frame["experiment_id"]) == set(IDS[:2])


def test_bytes_that_are_no_text_are_a_broken_file(sweep: Path) -> None:
    path = sweep / "demo" / IDS[0] / schema.METRICS
    table = pq.ParquetFile(path).read()
    names = pa.array([b"\xff"] * len(table), pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("metric"), "metric", names), path)
    with pytest.warns(RunsWarning, match="UTF8"):
        assert set(load(sweep)["experiment_id"]) == set(IDS[1:])


def test_no_readable_run_is_an_error_that_says_why(sweep: Path) -> None:
    for run in IDS:
        empty(sweep / "demo" / run / schema.OPTIONS)
    with pytest.raises(AnalysisError, match=r"none of 3 runs can be read: .*options.parquet: .*\(and 2 more\)"):
        load(sweep)


def test_files_of_other_runs_are_not_opened(sweep: Path) -> None:
    empty(sweep / "demo" / IDS[0] / schema.METRICS)
    empty(sweep / "demo" / IDS[1] / schema.OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(sweep, where={ID: IDS[2]})) == 13
    with pytest.warns(RunsWarning, match="1 left out"):
        assert len(load(sweep, where={"init": 0, "truncation": "adaptive"})) == 13


def int_epochs(table: pa.Table) -> pa.Table:
    return table.set_column(2, "epoch", table["epoch"].cast(pa.int64()))


def fractions_of_steps(table: pa.Table) -> pa.Table:
    return table.set_column(1, "step", pa.array([0.5] * len(table)))


def no_value(table: pa.Table) -> pa.Table:
    return table.drop_columns(["value"])


def a_null(table: pa.Table) -> pa.Table:
    return table.set_column(6, "metric", pa.array([None, *table["metric"].to_pylist()[1:]], pa.string()))


def rows_of_two(table: pa.Table) -> pa.Table:
    return table.set_column(0, ID, pa.array([IDS[1], *[IDS[0]] * (len(table) - 1)]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (int_epochs, ""),
        (fractions_of_steps, "truncated"),
        (no_value, "lacks column value"),
        (a_null, "column metric has nulls"),
        (rows_of_two, f"experiment_id {IDS[1]} is not in options.parquet"),
    ],
)
def test_what_does_not_fit_the_schema_is_cast_without_loss_or_left_out(
    sweep: Path, change: Callable[[pa.Table], pa.Table], reason: str
) -> None:
    path = sweep / "demo" / IDS[0] / schema.METRICS
    before = load(sweep)
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    if reason:
        with pytest.warns(RunsWarning, match=reason):
            after = load(sweep)
        assert set(after[ID]) == set(IDS[1:])
    else:
        pd.testing.assert_frame_equal(load(sweep), before)


def test_a_flipped_bit_is_a_broken_file(sweep: Path) -> None:
    path = sweep / "demo" / IDS[0] / schema.METRICS
    pq.write_table(pq.ParquetFile(path).read(), path, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    at = content.index(np.float64(1.2).tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.warns(RunsWarning, match="CRC"):
        assert set(load(sweep)[ID]) == set(IDS[1:])


def test_many_runs_are_read_in_order(outputs: Path, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FOLDERS", 3)
    for number in range(10):
        values = {"valid_ppl": [float(number)] * (number % 3), f"K_{number}": [1.0]}
        write_run(f"{number:012d}", values if number != 5 else None, lr=float(number))
    empty(outputs / "demo" / f"{7:012d}" / schema.METRICS)
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
