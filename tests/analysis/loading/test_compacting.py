from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, RunsWarning, load, load_metrics, load_options, load_status
from analysis.loading import compacting, finding, reading
from analysis.loading.compacted import COMPACT
from analysis.loading.compacting import compact
from atbptt.monitor.reading import Reader
from atbptt.runs import schema
from atbptt.system import locks

WriteRun = Callable[..., Path]

ID = "experiment_id"
IDS = ["000000000001", "1e5000000000", "abcdefabcdef"]
NONE_YET, WITHOUT_OPTION = "0000000000aa", "0000000000ab"


@pytest.fixture
def runs(sweep: Path, write_run: WriteRun) -> Path:
    """The folder of five runs: the three of `sweep`, one that has come to no evaluation, one that diverged."""
    write_run(NONE_YET, None, state=schema.RUNNING)
    write_run(WITHOUT_OPTION, {"valid_ppl": [1 / 3, math.inf, math.nan]}, lr=0.1, flag=True, sizes=[1, 2], model=None)
    return sweep / "demo"


def change(directory: Path, value: float) -> None:
    path = directory / schema.METRICS
    table = pq.ParquetFile(path).read()
    pq.write_table(table.set_column(8, "value", pa.array([value] * len(table))), path)
    os.utime(path, ns=(1, 1))  # file systems with coarse clocks would not tell


@pytest.mark.parametrize("group", [3, 1000])
def test_what_is_loaded_is_the_same_to_the_bit(runs: Path, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "GROUP", group)
    frame, options, metrics = load(runs), load_options(runs), load_metrics(runs)
    (written,) = compact(runs)
    assert (written.path, written.runs, written.rows, written.problems) == (runs / COMPACT, 5, 34, [])
    pd.testing.assert_frame_equal(load(runs), frame, check_exact=True)
    pd.testing.assert_frame_equal(load_options(runs), options, check_exact=True)
    pd.testing.assert_frame_equal(load_metrics(runs.parent), metrics, check_exact=True)
    assert load(runs)["value"].to_numpy().tobytes() == frame["value"].to_numpy().tobytes()


def test_files_of_runs_are_not_opened(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compact(runs)
    monkeypatch.setattr(finding, "read_options", None)
    monkeypatch.setattr(reading, "_stored", None)
    assert len(load(runs)) == 34


@pytest.mark.parametrize("group", [3, 1000])
@pytest.mark.parametrize(
    ("metrics", "where"),
    [
        ("valid_ppl", None),
        (["K*", "test_ppl"], {"truncation": "fixed"}),
        (None, {ID: [IDS[2], WITHOUT_OPTION]}),
        (None, {"truncation.K": None}),
        ("nothing_*", None),
        (None, {"lr": 77}),
    ],
)
def test_filters(runs: Path, group: int, metrics: object, where: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "GROUP", group)
    before = load(runs, metrics, where)  # type: ignore[arg-type]
    compact(runs)
    after = load(runs, metrics, where)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(after, before, check_like=True)  # options come in the order of their first run


def test_a_metric_that_no_run_has(runs: Path) -> None:
    compact(runs)
    with pytest.raises(AnalysisError, match=r"metrics \(=valid_pl\) must be one of K, K_0.9, test_ppl, valid_ppl"):
        load(runs, "valid_pl")


def test_a_run_that_has_changed_is_read_from_its_own_files(runs: Path, write_run: WriteRun) -> None:
    order = load_options(runs)[ID].tolist()
    compact(runs)
    change(runs / IDS[1], 7.0)
    write_run("0000000000b0", {"valid_ppl": [5.0]}, lr=3.0)
    frame = load(runs)
    assert set(frame.loc[frame[ID] == IDS[1], "value"]) == {7.0}
    assert frame.loc[frame[ID] == "0000000000b0", "lr"].tolist() == [3.0]
    assert load_options(runs)[ID].tolist() == sorted([*order, "0000000000b0"])
    assert frame[ID].unique().tolist() == sorted({*order, "0000000000b0"} - {NONE_YET})
    shutil.rmtree(runs / IDS[0])
    before = load(runs)
    (written,) = compact(runs)
    assert written.runs == 6
    pd.testing.assert_frame_equal(load(runs), before)


def test_options_that_have_changed_are_read(runs: Path) -> None:
    compact(runs)
    path = runs / IDS[0] / schema.OPTIONS
    table = pq.ParquetFile(path).read()
    pq.write_table(table.set_column(table.schema.get_field_index("lr"), "lr", pa.array([9.0])), path)
    os.utime(path, ns=(1, 1))
    assert load_options(runs).set_index(ID).loc[IDS[0], "lr"] == 9.0


def test_runs_whose_directories_were_deleted_stay(runs: Path) -> None:
    frame, options, status = load(runs), load_options(runs), load_status(runs)
    with locks.hold(runs / NONE_YET / schema.LOCK):
        compact(runs)
    for directory in [path for path in runs.iterdir() if path.is_dir()]:
        shutil.rmtree(directory)
    for _ in range(2):
        pd.testing.assert_frame_equal(load(runs), frame)
        pd.testing.assert_frame_equal(load_options(runs.parent), options)
        after = load_status(runs).set_index(ID)
        assert after.drop(NONE_YET)["state"].tolist() == [schema.FINISHED] * 4
        assert after.loc[NONE_YET, ["state", "error"]].tolist() == ["stale", "its directory is gone"]
        assert after["directory"].tolist() == status["directory"].tolist()
        assert compact(runs)[0].runs == 5


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(1.45).tobytes())] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def without_a_list(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    runs = json.loads(table.schema.metadata[b"runs"])
    del runs["rows"]
    pq.write_table(table.replace_schema_metadata({b"runs": json.dumps(runs).encode()}), path)


@pytest.mark.parametrize("spoil", [truncate, flip, foreign, without_a_list])
def test_a_damaged_file_is_named_and_the_sources_are_read(runs: Path, spoil: Callable[[Path], None]) -> None:
    before = load(runs)
    compact(runs)
    spoil(runs / COMPACT)
    damaged = (runs / COMPACT).read_bytes()
    with pytest.warns(RunsWarning, match=r"compact.parquet: .*; runs are read from their own files"):
        after = load(runs)
    pd.testing.assert_frame_equal(after, before)

    (written,) = compact(runs)
    assert any("kept as" in problem for problem in written.problems)
    assert (runs / "compact.damaged-1.parquet").read_bytes() == damaged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(load(runs), before)


def test_a_file_that_does_not_hold_what_the_sources_hold_never_takes_its_name(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(runs)
    content = (runs / COMPACT).read_bytes()
    real = compacting._tables

    def wrong(ids: object, rows: object, form: object) -> object:
        for table in real(ids, rows, form):  # type: ignore[arg-type]
            yield table.set_column(8, "value", pa.array([0.0] * len(table)))

    monkeypatch.setattr(compacting, "_tables", wrong)
    with pytest.raises(AnalysisError, match="not what was read back"):
        compact(runs)
    assert (runs / COMPACT).read_bytes() == content
    assert [path.name for path in runs.iterdir() if path.name.startswith(".")] == []


def test_a_run_that_is_broken_is_reported_each_time(runs: Path) -> None:
    (runs / IDS[0] / schema.METRICS).write_bytes(b"")
    (runs / IDS[1] / schema.OPTIONS).write_bytes(b"")
    (written,) = compact(runs)
    assert written.runs == 3
    assert len(written.problems) == 2
    for _ in range(2):
        with pytest.warns(RunsWarning, match="2 left out"):
            assert set(load(runs)[ID]) == {IDS[2], WITHOUT_OPTION}


def test_a_file_for_each_folder_of_runs(runs: Path, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run("0000000000b0", {"valid_ppl": [5.0]}, folder="other")
    assert [written.path for written in compact(runs.parent)] == [runs / COMPACT, runs.parent / "other" / COMPACT]
    (runs / COMPACT).unlink()
    assert [(written.path, written.runs) for written in compact([runs / IDS[0], runs])] == [(runs / COMPACT, 5)]
    monkeypatch.chdir(runs)
    assert [(str(written.path), written.runs) for written in compact(".")] == [(COMPACT, 5)]
    assert len(load(".")) == 34
    monkeypatch.chdir(runs / IDS[0])
    assert [written.path for written in compact(".")] == [runs / COMPACT]


def test_of_a_run_in_two_folders_the_longer_is_kept(runs: Path, write_run: WriteRun) -> None:
    write_run(IDS[0], {"valid_ppl": [9.0]}, folder="again")
    with pytest.warns(RunsWarning, match=r"more evaluations \(3, here 1\)"):
        before = load(runs.parent)
    compact(runs.parent)
    with pytest.warns(RunsWarning, match=r"more evaluations \(3, here 1\)"):
        pd.testing.assert_frame_equal(load(runs.parent), before)


def test_nothing_to_compact(tmp_path: Path, outputs: Path, write_run: WriteRun) -> None:
    with pytest.raises(AnalysisError, match="no runs here or below"):
        compact(tmp_path)
    with pytest.raises(AnalysisError, match="does not exist"):
        compact(tmp_path / "nowhere")
    write_run("a", {}, state=schema.RUNNING)
    (outputs / "demo" / "a" / schema.OPTIONS).write_bytes(b"")
    assert compact(outputs) == []
    assert not (outputs / "demo" / COMPACT).exists()


def test_other_readers_take_no_notice(runs: Path) -> None:
    before = [run.last.directory for run in Reader([runs]).read().runs]
    compact(runs)
    assert [run.last.directory for run in Reader([runs]).read().runs] == before


def test_other_programs_can_read_it(runs: Path) -> None:
    compact(runs)
    table = pq.read_table(runs / COMPACT)
    assert table.schema.names == schema.METRICS_SCHEMA.names
    pd.testing.assert_frame_equal(
        table.cast(schema.METRICS_SCHEMA).to_pandas(), load_metrics(runs).astype({"metric": str})
    )


def test_texts_may_be_stored_in_any_order(runs: Path) -> None:
    before = load(runs)
    compact(runs)
    table = pq.read_table(runs / COMPACT)
    texts = table["metric"].cast(pa.string())
    pq.write_table(table.set_column(6, "metric", texts), runs / COMPACT, row_group_size=5)  # in that of appearance
    pd.testing.assert_frame_equal(load(runs), before)
