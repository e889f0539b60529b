from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, RunsWarning, load, load_gradients, load_metrics, load_options, load_status
from atbptt import schema

IDS = ["000000000001", "1e5000000000", "abcdefabcdef"]
LOADERS = [load, load_options, load_metrics, load_gradients, load_status]


def problems(caught: pytest.WarningsRecorder) -> list[str]:
    assert len(caught) == 1
    message = caught[0].message
    assert isinstance(message, RunsWarning)
    return message.problems


def test_metrics_are_joined_with_the_options_of_their_own_run(sweep: Path) -> None:
    frame = load(sweep)
    assert list(frame.columns[: len(schema.METRICS_SCHEMA)]) == schema.METRICS_SCHEMA.names
    assert len(frame) == 9 + 9 + 13
    rows = frame[(frame["metric"] == "valid_ppl") & (frame["epoch"] == 2)].set_index("experiment_id")
    assert rows["value"].to_dict() == {IDS[0]: 1.2, IDS[1]: 1.6, IDS[2]: 1.1}
    assert rows["init"].to_dict() == {IDS[0]: 0, IDS[1]: 1, IDS[2]: 0}
    assert rows["truncation"].to_dict() == {IDS[0]: "fixed", IDS[1]: "fixed", IDS[2]: "adaptive"}
    assert rows["truncation.delta"].isna().tolist() == [True, True, False]
    assert sorted(frame.loc[frame["metric"] == "K_0.9", "replicate"]) == [0, 0, 1, 1]


def test_ids_that_look_like_numbers_stay_strings(sweep: Path) -> None:
    for read in (load, load_options, load_metrics, load_status):
        assert sorted(read(sweep)["experiment_id"].unique()) == IDS


def test_types_do_not_depend_on_what_is_absent(sweep: Path) -> None:
    both = load_options(sweep)
    one = load_options(sweep / "demo" / IDS[0])
    assert both["truncation.K"].dtype == one["truncation.K"].dtype == pd.Int64Dtype()
    assert both["truncation.K"].tolist() == [5, 5, pd.NA]
    assert both["truncation.delta"].dtype == float
    assert "truncation.delta" not in one
    assert load_metrics(sweep).dtypes.to_dict() == load_metrics(sweep / "demo" / IDS[0]).dtypes.to_dict()


def test_a_run_an_experiment_a_root_or_several_of_them_are_read(sweep: Path) -> None:
    run = sweep / "demo" / IDS[0]
    assert load_options(run)["experiment_id"].tolist() == IDS[:1]
    assert load_options(str(sweep / "demo"))["experiment_id"].tolist() == IDS
    assert load_options([run, sweep / "demo" / IDS[2]])["experiment_id"].tolist() == [IDS[0], IDS[2]]
    # A folder named twice is read once, and that is no duplicate.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_metrics([sweep, run, sweep / "demo" / ".." / "demo"])) == len(load_metrics(sweep))


def test_hidden_folders_and_temporary_files_are_not_read(sweep: Path) -> None:
    shutil.copytree(sweep / "demo", sweep / ".trash")
    (sweep / "demo" / IDS[0] / ".metrics.parquet.1234").write_bytes(b"half")
    (sweep / "demo" / "notes.parquet").write_bytes(b"not ours")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(sweep)) == 31


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
    with pytest.warns(RunsWarning, match=r"options.parquet: no such file; run skipped"):
        assert load_options(sweep)["experiment_id"].tolist() == IDS[1:]


def test_metrics_of_another_run_are_not_joined(sweep: Path) -> None:
    shutil.copy(sweep / "demo" / IDS[0] / schema.METRICS, sweep / "demo" / IDS[2] / schema.METRICS)
    with pytest.warns(RunsWarning, match=f"experiment_id is {IDS[0]}, but {IDS[2]} in options.parquet"):
        frame = load(sweep)
    assert set(frame["experiment_id"]) == set(IDS[:2])


def test_bytes_that_are_no_text_are_a_broken_file(sweep: Path) -> None:
    path = sweep / "demo" / IDS[0] / schema.METRICS
    table = pq.ParquetFile(path).read()
    names = pa.array([b"\xff"] * len(table), pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("metric"), "metric", names), path)
    with pytest.warns(RunsWarning, match="UTF8"):
        assert set(load(sweep)["experiment_id"]) == set(IDS[1:])


def test_of_a_duplicate_the_longer_is_kept(sweep: Path, write_run: Callable[..., Path]) -> None:
    shorter = write_run(IDS[0], {"valid_ppl": [1.0]}, folder="again")
    with pytest.warns(RunsWarning) as caught:
        frame = load(sweep)
    assert frame.loc[frame["experiment_id"] == IDS[0], "value"].min() == 1.0  # its third test_ppl
    assert (frame["experiment_id"] == IDS[0]).sum() == 9
    (problem,) = problems(caught)
    assert problem.startswith(f"{shorter}: ")
    assert "more evaluations (3, here 1)" in problem

    longer = write_run(IDS[1], {"valid_ppl": [3.0] * 4}, folder="zz")
    with pytest.warns(RunsWarning):
        status = load_status(sweep).set_index("experiment_id")
    assert status.loc[IDS[1], "directory"] == str(longer)


def test_a_run_without_evaluations_has_options_and_no_rows(sweep: Path, write_run: Callable[..., Path]) -> None:
    write_run("0000000000aa", None, state=schema.RUNNING)
    write_run("0000000000ab", {})
    assert set(load_options(sweep)["experiment_id"]) == {"0000000000aa", "0000000000ab", *IDS}
    assert set(load(sweep)["experiment_id"]) == set(IDS)
    empty_frame = load(sweep / "demo" / "0000000000aa")
    assert empty_frame.empty
    assert empty_frame["value"].dtype == float


def test_a_column_of_nulls_does_not_hide_the_values_of_the_others(root: Path, write_run: Callable[..., Path]) -> None:
    for run, value in {"a": None, "b": 0.5}.items():
        path = write_run(run, {"valid_ppl": [1.0]}, clip_norm=value) / schema.OPTIONS
        table = pq.ParquetFile(path).read()
        for name in {"clip_norm", "never"} - {*table.schema.names}:
            table = table.append_column(name, pa.nulls(1))
        pq.write_table(table, path)
    options = load_options(root)
    assert options["clip_norm"].dtype == float
    assert options["clip_norm"].isna().tolist() == [True, False]
    assert "never" not in options


def test_options_of_different_types(root: Path, write_run: Callable[..., Path]) -> None:
    write_run("a", {}, patience=3, sizes=[1, 2], lr=1, flag=True)
    write_run("b", {}, patience="never", sizes=None, lr=0.5)
    options = load_options(root)
    assert options["patience"].tolist() == ["3", "never"]
    assert options["sizes"].tolist()[0] == "[1, 2]"
    assert options["sizes"].isna().tolist() == [False, True]
    assert options["lr"].tolist() == [1.0, 0.5]
    assert options["flag"].dtype == pd.BooleanDtype()


def test_an_option_named_like_a_metric_column_is_renamed(root: Path, write_run: Callable[..., Path]) -> None:
    write_run("a", {"valid_ppl": [1.5]}, step=7)
    frame = load(root)
    assert frame["step"].tolist() == [100]
    assert frame["option.step"].tolist() == [7]


def test_gradients(sweep: Path) -> None:
    row = {"experiment_id": IDS[0], "step": 100, "epoch": 1.0, "replicate": 0, "component": "all"}
    rows = [{**row, "lag": lag, "phi": 0.5**lag, "kept_of_mean": 1.0} for lag in (1, 2)]
    table = pa.Table.from_pylist(rows, schema=schema.GRADIENTS_SCHEMA)
    pq.write_table(table, sweep / "demo" / IDS[0] / schema.GRADIENTS)
    gradients = load_gradients(sweep)
    assert gradients["phi"].tolist() == [0.5, 0.25]
    assert list(gradients.columns) == schema.GRADIENTS_SCHEMA.names


def test_status(sweep: Path) -> None:
    (sweep / "demo" / IDS[0] / schema.STATUS).write_text(json.dumps({"state": schema.FAILED}))
    (sweep / "demo" / IDS[1] / schema.STATUS).write_text("{")
    with pytest.warns(RunsWarning, match="state unknown"):
        status = load_status(sweep)
    assert status["state"].fillna("?").tolist() == ["failed", "?", "finished"]
    assert status["directory"].tolist() == [str(sweep / "demo" / run) for run in IDS]


@pytest.mark.parametrize("read", LOADERS)
def test_bad_paths(tmp_path: Path, read: Callable[[Path], pd.DataFrame]) -> None:
    with pytest.raises(AnalysisError, match="nowhere: does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(AnalysisError, match="no runs"):
        read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(AnalysisError, match="is a file"):
        read(tmp_path / "file")


def test_no_readable_run_is_an_error_that_says_why(sweep: Path) -> None:
    for run in IDS:
        empty(sweep / "demo" / run / schema.OPTIONS)
    with pytest.raises(AnalysisError, match=r"none of 3 runs can be read: .*options.parquet: .*\(and 2 more\)"):
        load(sweep)
