from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, RunsWarning, load, load_gradients, load_metrics, load_options, load_status
from analysis.loading.options import read_options
from atbptt.runs import schema
from tests.helpers.loading import ID, IDS, problems, write_gradients

WriteRun = Callable[..., Path]
LOADERS = [load, load_options, load_metrics, load_gradients, load_status]


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
    assert names_of_types(load(sweep / "demo")) == {
        **names_of_types(load(sweep / "demo" / IDS[0])),
        "truncation.delta": "float64",
    }


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


def names_of_types(frame: pd.DataFrame) -> dict[str, str]:
    return {name: kind.name for name, kind in frame.dtypes.items()}


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


def test_a_column_of_nulls_does_not_hide_the_values_of_the_others(
    outputs: Path, write_run: Callable[..., Path]
) -> None:
    for run, value in {"a": None, "b": 0.5}.items():
        path = write_run(run, {"valid_ppl": [1.0]}, clip_norm=value) / schema.OPTIONS
        table = pq.ParquetFile(path).read()
        for name in {"clip_norm", "never"} - {*table.schema.names}:
            table = table.append_column(name, pa.nulls(1))
        pq.write_table(table, path)
    options = load_options(outputs)
    assert options["clip_norm"].dtype == float
    assert options["clip_norm"].isna().tolist() == [True, False]
    assert "never" not in options


def test_options_of_different_types(outputs: Path, write_run: Callable[..., Path]) -> None:
    write_run("a", {}, patience=3, sizes=[1, 2], lr=1, flag=True)
    write_run("b", {}, patience="never", sizes=None, lr=0.5)
    options = load_options(outputs)
    assert options["patience"].tolist() == ["3", "never"]
    assert options["sizes"].tolist()[0] == "[1, 2]"
    assert options["sizes"].isna().tolist() == [False, True]
    assert options["lr"].tolist() == [1.0, 0.5]
    assert options["flag"].dtype == pd.BooleanDtype()


def test_an_option_named_like_a_metric_column_is_renamed(outputs: Path, write_run: Callable[..., Path]) -> None:
    write_run("a", {"valid_ppl": [1.5]}, step=7)
    frame = load(outputs)
    assert frame["step"].tolist() == [100]
    assert frame["option.step"].tolist() == [7]


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


def with_json(path: Path) -> None:
    """The options of a run as training writes them: as JSON too."""
    table = pq.ParquetFile(path).read()
    (row,) = table.to_pylist()
    pq.write_table(table.replace_schema_metadata({schema.OPTIONS_JSON: json.dumps(row).encode()}), path)


def test_options_are_the_same_from_columns_and_from_json(outputs: Path, write_run: WriteRun) -> None:
    long = "x" * 20_000  # its length takes three bytes in the footer
    write_run("a", {"valid_ppl": [1.0]}, sizes=[1, 2], flag=True, lr=1.0, text="é \x18\x07options\x18", long=long)
    write_run("b", {"valid_ppl": [2.0]}, flag=None, lr=float("inf"), truncation__K=7)
    columns, rows = load_options(outputs), load(outputs)
    for path in outputs.glob(f"demo/*/{schema.OPTIONS}"):
        with_json(path)
        assert schema.OPTIONS_JSON in pq.read_metadata(path).metadata
    pd.testing.assert_frame_equal(load_options(outputs), columns)
    pd.testing.assert_frame_equal(load(outputs), rows)
    assert columns["sizes"].tolist()[0] == "[1, 2]"
    assert columns["text"].tolist()[0] == "é \x18\x07options\x18"


def test_options_written_by_a_run_are_read_from_its_json(outputs: Path) -> None:
    from atbptt.runs.tables import serialised_options

    options = {"experiment_id": "00", "lr": 1.0, "K": 5, "sizes": [1, 2], "tied": False, "none": None}
    (outputs / "demo" / "00").mkdir(parents=True)
    path = outputs / "demo" / "00" / schema.OPTIONS
    path.write_bytes(serialised_options(options))
    assert read_options(str(path)) == [{"experiment_id": "00", "lr": 1.0, "K": 5, "sizes": "[1, 2]", "tied": False}]
    assert load_options(outputs).dtypes.astype(str).to_dict() == {
        "experiment_id": "str",
        "lr": "float64",
        "K": "Int64",
        "sizes": "str",
        "tied": "boolean",
    }


def test_metrics_by_name_and_pattern(sweep: Path) -> None:
    assert set(load(sweep, "valid_ppl")["metric"]) == {"valid_ppl"}
    assert load(sweep, "valid_ppl")["metric"].cat.categories.tolist() == ["valid_ppl"]
    assert set(load_metrics(sweep, ["K", "*_ppl"])["metric"]) == {"K", "valid_ppl", "test_ppl"}
    only_adaptive = load(sweep, "K_0.9")
    assert only_adaptive["value"].tolist() == [9, 8, 7, 6]
    assert set(only_adaptive["experiment_id"]) == {IDS[2]}
    everything = load(sweep)
    pd.testing.assert_frame_equal(
        load(sweep, ["valid_*"]).astype({"metric": str}),
        everything[everything["metric"] == "valid_ppl"].reset_index(drop=True).astype({"metric": str}),
    )


def test_a_metric_that_no_run_has_is_an_error_a_pattern_is_not(sweep: Path, write_run: WriteRun) -> None:
    with pytest.raises(AnalysisError, match=r"metrics \(=valid_pl\) must be one of .*; did you mean valid_ppl\?"):
        load(sweep, ["K", "valid_pl"])
    assert load(sweep, "train_*").empty
    assert load(sweep, []).empty
    write_run("0000000000aa", None)
    assert load(sweep / "demo" / "0000000000aa", "valid_pl").empty  # nothing is evaluated yet


def test_runs_by_their_options(sweep: Path) -> None:
    def ids(**where: object) -> list[str]:
        return sorted(load(sweep, where={name.replace("__", "."): value for name, value in where.items()})[ID].unique())

    assert ids(truncation="fixed") == IDS[:2]
    assert ids(init=[1, 2]) == [IDS[1]]
    assert ids(truncation__K=None) == [IDS[2]]
    assert ids(truncation__delta=[None, 0.9]) == IDS
    assert ids(truncation="fixed", init=0) == IDS[:1]
    assert ids(lr=1) == IDS
    assert ids(lr=2) == []
    assert ids(experiment_id=pd.Series(IDS[1:])) == IDS[1:]
    assert load(sweep, where={"lr": 2}).dtypes["metric"].name == "category"
    with pytest.raises(AnalysisError, match=r"where \(=truncaton\) must be one of .*; did you mean truncation\?"):
        load(sweep, where={"truncaton": "fixed"})


def test_a_run_in_a_renamed_directory_is_found_by_its_id(sweep: Path) -> None:
    (sweep / "demo" / IDS[2]).rename(sweep / "demo" / "best")
    assert len(load(sweep, where={ID: IDS[2]})) == 13
    assert load(sweep, where={ID: "none such"}).empty


def test_an_option_that_is_the_same_in_all_runs_takes_no_memory(sweep: Path) -> None:
    frame = load(sweep)
    assert frame["seed"].array._data.strides == (0,)
    assert frame["model"].array.codes.strides == (0,)
    assert frame["epochs"].to_numpy().strides == (0,)
    assert frame["init"].array._data.strides == (8,)
    assert frame.groupby(["model", "init"], observed=True)["value"].count().to_dict() == {
        ("lstm", 0): 22,
        ("lstm", 1): 9,
    }
    frame["seed"] = frame["seed"] + 1
    assert frame["seed"].unique().tolist() == [1]
    frame.loc[frame["metric"] == "K", "value"] = 0.0  # metrics can be changed row by row


def test_gradients(sweep: Path) -> None:
    write_gradients(sweep / "demo" / IDS[0], ["all", "hidden0", "cell0"])
    assert list(load_gradients(sweep).columns) == schema.GRADIENTS_SCHEMA.names
    assert load_gradients(sweep, components="all")["phi"].tolist() == [0.5, 0.25]
    assert load_gradients(sweep, components=["all", "cell*"])["component"].unique().tolist() == ["all", "cell0"]
    assert load_gradients(sweep, {ID: IDS[1]}).empty
    with pytest.raises(AnalysisError, match=r"components \(=hiden0\) must be one of all, cell0, hidden0"):
        load_gradients(sweep, components="hiden0")
    assert np.isnan(load_gradients(sweep)["relative_bias"]).all()
