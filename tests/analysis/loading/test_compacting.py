import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, Results, RunsWarning, load, load_gradients, load_metrics, load_options, load_status
from analysis.__main__ import main
from analysis.loading import compact, reading
from atbptt.runs import schema
from atbptt.system import locks
from tests.analysis.conftest import WriteRun
from tests.conftest import ROOT
from tests.helpers.loading import ID, IDS, write_gradients

NONE_YET, WITHOUT_OPTION = "0000000000aa", "0000000000ab"
FILES = [schema.OPTIONS, schema.METRICS, schema.GRADIENTS, "status.parquet"]
PUBLISHED = ROOT / "results" / "copy_fixed" / "init0"


@pytest.fixture
def runs(sweep: Path, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of five runs: the three of `sweep`, one that has come to no evaluation, one that diverged."""
    monkeypatch.setattr(reading, "FOLDERS", 2)  # several row groups
    write_run(NONE_YET, None, state=schema.FAILED, epochs=3.0)
    options = {"lr": 0.1, "flag": True, "sizes": [1, 2], "model": None, "epochs": 3.0}
    write_run(WITHOUT_OPTION, {"valid_ppl": [1 / 3, math.inf, math.nan]}, **options)
    write_gradients(sweep / "demo" / IDS[0], ["all", "hidden0"])
    return sweep / "demo"


@pytest.fixture
def folder(runs: Path, tmp_path: Path) -> Path:
    """The five runs, compacted."""
    assert compact(Results(runs), tmp_path / "c" / "one") == [tmp_path / "c" / "one" / name for name in FILES]
    return tmp_path / "c" / "one"


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.ParquetFile(path).read()), path, row_group_size=4)


@pytest.mark.filterwarnings("error")
def test_a_compacted_folder_loads_as_its_runs_do(runs: Path, folder: Path) -> None:
    for read in (load, load_options, load_metrics, load_gradients):
        pd.testing.assert_frame_equal(read(folder.parent), read(runs), check_exact=True)
    assert load(folder)["value"].to_numpy().tobytes() == load(runs)["value"].to_numpy().tobytes()
    status, before = load_status(folder), load_status(runs)
    assert set(status["directory"]) == {str(folder)}
    pd.testing.assert_frame_equal(status.drop(columns="directory"), before.drop(columns="directory"))


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
def test_filters(runs: Path, folder: Path, metrics: object, where: object) -> None:
    pd.testing.assert_frame_equal(load(folder, metrics, where), load(runs, metrics, where))  # type: ignore[arg-type]


LATER = ("compute_seconds", *schema.READINGS[3:])


def test_files_have_the_form_of_the_published_results(folder: Path) -> None:
    """But for columns that came later."""
    for name in (schema.METRICS, schema.GRADIENTS):
        kinds = [kind for kind in pq.read_schema(folder / name) if kind.name not in LATER]
        assert kinds == [*pq.read_schema(PUBLISHED / name)]
    assert pq.read_schema(folder / schema.OPTIONS).field(ID).type == pa.string()
    published = load(PUBLISHED)
    assert len(published) == pq.read_metadata(PUBLISHED / schema.METRICS).num_rows
    assert published["truncation.delta"].dropna().unique().tolist() == [0.9, 0.5, 0.1]
    assert set(load_status(PUBLISHED)["state"]) == {schema.FINISHED}  # it has no status.parquet
    assert len(load_gradients(PUBLISHED, {"truncation.K": 10}, "all")) > 0


@pytest.mark.filterwarnings("error")
def test_columns_and_rows_may_be_in_any_order_and_some_missing(runs: Path, folder: Path) -> None:
    before = load(runs)
    gone = ["adaptive_epoch", "train_seconds", "compute_seconds"]
    for name in FILES[:3]:
        rewrite(folder / name, lambda table: table.select(table.schema.names[::-1]))
    rewrite(folder / schema.METRICS, lambda table: table.drop_columns(gone).sort_by([("metric", "descending")]))
    (folder / schema.GRADIENTS).unlink()
    after = load(folder)
    assert after[gone].isna().all(axis=None)
    keys = [ID, "metric", "step", "replicate"]
    pd.testing.assert_frame_equal(
        after.drop(columns=gone).sort_values(keys, ignore_index=True),
        before.drop(columns=gone).sort_values(keys, ignore_index=True),
        check_like=True,
    )
    together = [run for run in load_options(folder)[ID] if run != NONE_YET]
    assert after[ID].unique().tolist() == together  # the rows of a run
    assert load_gradients(folder).empty


@pytest.mark.parametrize("file", [schema.OPTIONS, schema.METRICS])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop_columns([ID]), f"lacks column {ID}"),
        (lambda table: table.set_column(0, ID, pa.nulls(len(table), pa.string())), f"column {ID} has nulls"),
    ],
)
def test_a_missing_id_is_named(
    folder: Path, runs: Path, file: str, change: Callable[[pa.Table], pa.Table], reason: str
) -> None:
    rewrite(folder / file, change)
    with pytest.warns(RunsWarning, match=f"{folder / file}: {reason}"):
        load([folder, runs / IDS[0]])


def test_rows_of_other_runs_and_broken_states_are_named(folder: Path) -> None:
    rewrite(folder / schema.OPTIONS, lambda table: table.slice(1))
    (folder / "status.parquet").write_bytes(b"")
    with pytest.warns(RunsWarning, match=r"status.parquet: .*; states unknown"):
        assert load_status(folder)["state"].isna().all()
    rewrite(folder / schema.OPTIONS, lambda table: table.slice(2))
    with pytest.warns(RunsWarning, match=f"{ID} {IDS[0]} is not in options.parquet"):
        load(folder)


@pytest.mark.filterwarnings("error")
def test_a_run_directory_wins_and_deleted_runs_stay(runs: Path) -> None:
    frame, options = load(runs), load_options(runs)
    compact(Results(runs), runs / "compact")
    pd.testing.assert_frame_equal(load(runs), frame)  # each run once
    path = runs / IDS[1] / schema.METRICS
    pq.write_table(pq.ParquetFile(path).read().slice(0, 1), path)
    assert (load(runs)[ID] == IDS[1]).sum() == 1
    for run in (IDS[0], IDS[2]):
        shutil.rmtree(runs / run)
    compact(Results(runs), runs / "compact")  # again, from both
    for directory in [path for path in runs.iterdir() if path.name != "compact"]:
        shutil.rmtree(directory)
    after = load(runs.parent)
    assert after.groupby(ID).size().to_dict() == {**frame.groupby(ID).size().to_dict(), IDS[1]: 1}
    assert sorted(load_options(runs)[ID]) == sorted(options[ID])
    assert len(load_gradients(runs)) == 4


def test_folders_are_joined_and_of_two_that_share_a_run_the_first_counts(runs: Path, tmp_path: Path) -> None:
    compact(Results(runs / IDS[0]), tmp_path / "c" / "a")
    compact(Results([runs / IDS[0], runs / IDS[1]]), tmp_path / "c" / "b")
    with pytest.warns(RunsWarning, match=f"c/b: has runs that are also in {tmp_path}/c/a; kept those"):
        frame = load([tmp_path / "c", runs / IDS[2]])
    pd.testing.assert_frame_equal(frame, load([runs / run for run in IDS]))


def test_a_running_run_is_stale_once_compacted(runs: Path, tmp_path: Path) -> None:
    (runs / NONE_YET / schema.STATUS).write_text('{"state": "running"}')
    with locks.hold(runs / NONE_YET / schema.LOCK):
        files = compact(Results(runs), tmp_path / "c")
    status = load_status(tmp_path / "c").set_index(ID).loc[NONE_YET]
    assert status[["state", "error"]].tolist() == ["stale", "was running when it was compacted"]
    for path, message in ((runs / IDS[0], "is a run directory; give another folder"), (files[0], "is a file; give a")):
        with pytest.raises(AnalysisError, match=message):
            compact(Results(runs), path)


def test_broken_runs_are_named_and_broken_files_are_not_replaced(runs: Path, folder: Path) -> None:
    (runs / IDS[0] / schema.METRICS).write_bytes(b"")
    (runs / IDS[1] / schema.OPTIONS).write_bytes(b"")
    results = Results(runs)
    compact(results, runs / "compact")
    assert [problem.split(": ")[0] for problem in results.problems] == [
        str(runs / IDS[1] / schema.OPTIONS),
        str(runs / IDS[0] / schema.METRICS),
    ]
    (folder / schema.METRICS).write_bytes(b"broken")
    with pytest.raises(AnalysisError, match=r"metrics.parquet: .*; move it away, or give another folder"):
        compact(Results([runs, folder]), folder)
    assert (folder / schema.METRICS).read_bytes() == b"broken"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_commands_read_what_compact_wrote(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*command: str) -> str:
        assert main([*command]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    folder = tmp_path / "there"
    table = printed("table", str(runs))
    for path, options in ((runs / "compact", []), (folder, ["--to", str(folder)])):
        assert printed("compact", str(runs), *options).splitlines() == [str(path / name) for name in FILES]
    assert "compact" not in printed("status", str(runs))
    assert printed("table", str(folder)) == table.replace(f"{runs}/<experiment_id>/", f"{folder}/")
    for command in ("report", "export"):
        printed(command, str(folder))
    assert "4 of 5 runs finished; 1 went wrong." in (folder / "report.html").read_text()
