import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import (
    AnalysisError,
    Results,
    RunsWarning,
    load,
    load_gradients,
    load_metrics,
    load_options,
    load_status,
    summarize,
)
from analysis.loading import compact
from analysis.loading.options import read_options
from atbptt.runs import schema
from atbptt.runs.tables import serialised_options
from tests.analysis.conftest import WriteRun
from tests.helpers.loading import ID, IDS, problems, write_gradients
from tests.helpers.spoiling import repeated

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


def test_types_do_not_depend_on_what_is_absent(sweep: Path) -> None:
    both, one = load_options(sweep), load_options(sweep / "demo" / IDS[0])
    assert both["truncation.K"].dtype == one["truncation.K"].dtype == pd.Int64Dtype()
    assert both["truncation.K"].tolist() == [5, 5, pd.NA]
    assert both["truncation.delta"].dtype == float
    assert "truncation.delta" not in one
    types, types_of_one = (dict(load(path).dtypes.astype(str)) for path in (sweep, sweep / "demo" / IDS[0]))
    assert types == {**types_of_one, "truncation.delta": "float64"}


@pytest.mark.filterwarnings("error")
def test_a_run_an_experiment_a_root_or_several_of_them_are_read(sweep: Path) -> None:
    run = sweep / "demo" / IDS[0]
    assert load_options(run)[ID].tolist() == IDS[:1]
    assert load_options(str(sweep / "demo"))[ID].tolist() == IDS
    assert load_options([run, sweep / "demo" / IDS[2]])[ID].tolist() == [IDS[0], IDS[2]]
    # A folder named twice is read once, and that is no duplicate.
    assert len(load_metrics([sweep, run, sweep / "demo" / ".." / "demo"])) == 31
    # Hidden folders and other files are not read; of a renamed directory the id counts.
    shutil.copytree(sweep / "demo", sweep / ".trash")
    (run / ".metrics.parquet.1234").write_bytes(b"half")
    (sweep / "demo" / "notes.parquet").write_bytes(b"not ours")
    (sweep / "demo" / IDS[2]).rename(sweep / "demo" / "best")
    assert len(load(sweep)) == 31
    assert len(load(sweep, where={ID: IDS[2]})) == 13
    assert len(load(sweep, where={ID: IDS[1:]})) == 9 + 13
    assert load(sweep, where={ID: "none such"}).empty


def test_of_a_duplicate_the_longer_is_kept(sweep: Path, write_run: WriteRun) -> None:
    shorter = write_run(IDS[0], {"valid_ppl": [1.0]}, folder="again")
    with pytest.warns(RunsWarning) as caught:
        frame = load(sweep)
    assert (frame[ID] == IDS[0]).sum() == 9
    (problem,) = problems(caught)
    assert problem.startswith(f"{shorter}: ")
    assert "more evaluations (3, here 1)" in problem
    repeated(schema.METRICS, 500_000)(shorter)  # refused: too many for so few bytes
    with pytest.warns(RunsWarning, match=r"more evaluations \(3, here 0\)"):
        load_options(sweep)
    longer = write_run(IDS[1], {"valid_ppl": [3.0] * 4}, folder="zz")
    with pytest.warns(RunsWarning):
        status = load_status(sweep).set_index(ID)
    assert status.loc[IDS[1], "directory"] == str(longer)


def test_experiments_keep_a_run_that_others_have_too(outputs: Path, write_run: WriteRun, tmp_path: Path) -> None:
    for name, values in {"one": [1.5, 1.25], "two": [1.5, 1.25, 1.125]}.items():
        directory = write_run("00a", {"valid_ppl": values}, folder=name, name=name)
        write_gradients(directory, ["all"])
    write_run("00b", {"valid_ppl": [2.0]}, folder="two", name="two", lr=9.0)
    ids = ["00a@one", "00a@two", "00b"]
    frame = load(outputs)
    assert frame.groupby(ID)["value"].min().to_dict() == dict(zip(ids, [1.25, 1.125, 2.0], strict=True))
    assert frame.groupby(ID)["name"].first().tolist() == ["one", "two", "two"]
    assert load(outputs / "two")[ID].unique().tolist() == ["00a", "00b"]
    assert load_status(outputs)[ID].tolist() == ids
    assert load_gradients(outputs)[ID].unique().tolist() == ids[:2]
    for asked, found in (("00a", ids[:2]), (["00a@two"], ids[1:2]), (["00a@two", "00b"], ids[1:]), ([], [])):
        assert load(outputs, where={ID: asked})[ID].unique().tolist() == found
    compact(Results(outputs), tmp_path / "compact")
    pd.testing.assert_frame_equal(load(tmp_path / "compact"), frame)
    pd.testing.assert_frame_equal(load([tmp_path / "compact", outputs]), frame)
    (one,) = summarize(frame[frame["name"] == "one"]).to_dict("records")
    assert (one["runs"], one["valid_mean"]) == (1, 1.25)


def test_a_run_without_evaluations_has_options_and_no_rows(sweep: Path, write_run: WriteRun) -> None:
    write_run("0000000000aa", None, state=schema.RUNNING)
    write_run("0000000000ab", {})
    assert set(load_options(sweep)[ID]) == {"0000000000aa", "0000000000ab", *IDS}
    assert set(load(sweep)[ID]) == set(IDS)
    empty_frame = load(sweep / "demo" / "0000000000aa", "valid_pl")  # which may come to be logged
    assert empty_frame.empty
    assert empty_frame["value"].dtype == float


def test_a_column_of_nulls_is_no_option_and_one_named_like_a_metric_column_is_renamed(
    outputs: Path, write_run: WriteRun
) -> None:
    path = write_run("a", {"valid_ppl": [1.5]}, step=7) / schema.OPTIONS
    table = pq.ParquetFile(path).read()
    pq.write_table(table.append_column("clip_norm", pa.nulls(1)).append_column("never", pa.nulls(1)), path)
    write_run("b", {}, clip_norm=0.5)
    options = load_options(outputs)
    assert options["clip_norm"].dtype == float
    assert options["clip_norm"].isna().tolist() == [True, False]
    assert "never" not in options
    assert load(outputs)[["step", "option.step"]].to_numpy().tolist() == [[100, 7]]


@pytest.mark.parametrize("read", LOADERS)
def test_bad_paths(tmp_path: Path, read: Callable[[Path], pd.DataFrame]) -> None:
    (tmp_path / "file").touch()
    for name, message in (("nowhere", "nowhere: does not exist"), ("", "no runs"), ("file", "is a file")):
        with pytest.raises(AnalysisError, match=message):
            read(tmp_path / name)


def test_options_are_the_same_from_columns_and_from_json(outputs: Path, write_run: WriteRun) -> None:
    long = "x" * 20_000  # its length takes three bytes in the footer
    write_run("a", {"valid_ppl": [1.0]}, sizes=[1, 2], flag=True, lr=1.0, text="é \x18\x07options\x18", long=long)
    write_run("b", {"valid_ppl": [2.0]}, flag=None, lr=float("inf"), truncation__K=7)
    columns, rows = load_options(outputs), load(outputs)
    for path in outputs.glob(f"demo/*/{schema.OPTIONS}"):  # as training writes them: as JSON too
        table = pq.ParquetFile(path).read()
        content = json.dumps(*table.to_pylist()).encode()
        pq.write_table(table.replace_schema_metadata({schema.OPTIONS_JSON: content}), path)
    pd.testing.assert_frame_equal(load_options(outputs), columns)
    pd.testing.assert_frame_equal(load(outputs), rows)
    assert columns["sizes"].tolist()[0] == "[1, 2]"
    assert columns["text"].tolist()[0] == "é \x18\x07options\x18"


def test_options_written_by_a_run_are_read_from_its_json(tmp_path: Path) -> None:
    options = {"experiment_id": "00", "lr": 1.0, "K": 5, "sizes": [1, 2], "tied": False}
    path = tmp_path / schema.OPTIONS
    path.write_bytes(serialised_options(options | {"none": None}))
    assert read_options(str(path)) == [options | {"sizes": "[1, 2]"}]
    types = {"experiment_id": "str", "lr": "float64", "K": "Int64", "sizes": "str", "tied": "boolean"}
    assert dict(load_options(tmp_path).dtypes.astype(str)) == types


def test_metrics_by_name_and_pattern(sweep: Path) -> None:
    everything = load(sweep)
    assert load(sweep, "valid_ppl")["metric"].cat.categories.tolist() == ["valid_ppl"]
    assert set(load_metrics(sweep, ["K", "*_ppl"])["metric"]) == {"K", "valid_ppl", "test_ppl"}
    assert load(sweep, "K_0.9")[[ID, "value"]].to_numpy().tolist() == [[IDS[2], value] for value in (9, 8, 7, 6)]
    pd.testing.assert_frame_equal(
        load(sweep, ["valid_*"]).astype({"metric": str}),
        everything[everything["metric"] == "valid_ppl"].reset_index(drop=True).astype({"metric": str}),
    )


def test_a_metric_that_no_run_has_is_an_error_a_pattern_is_not(sweep: Path) -> None:
    with pytest.raises(AnalysisError, match=r"metrics \(=valid_pl\) must be one of .*; did you mean valid_ppl\?"):
        load(sweep, ["K", "valid_pl"])
    assert load(sweep, "train_*").empty
    assert load(sweep, []).empty


def test_runs_by_their_options(sweep: Path) -> None:
    for where, runs in (
        ({"truncation": "fixed"}, IDS[:2]),
        ({"init": [1, 2]}, [IDS[1]]),
        ({"truncation.K": None}, [IDS[2]]),
        ({"truncation.delta": [None, 0.9]}, IDS),
        ({"truncation": "fixed", "init": 0}, IDS[:1]),
        ({"lr": 1}, IDS),
        ({"lr": 2}, []),
        ({ID: pd.Series(IDS[1:])}, IDS[1:]),
    ):
        assert sorted(load(sweep, where=where)[ID].unique()) == runs
    assert load(sweep, where={"lr": 2}).dtypes["metric"].name == "category"
    with pytest.raises(AnalysisError, match=r"where \(=truncaton\) must be one of .*; did you mean truncation\?"):
        load(sweep, where={"truncaton": "fixed"})


def test_an_option_that_is_the_same_in_all_runs_takes_no_memory(sweep: Path) -> None:
    frame = load(sweep)
    assert frame["seed"].array._data.strides == (0,)
    assert frame["model"].array.codes.strides == (0,)
    assert frame["epochs"].to_numpy().strides == (0,)
    assert frame["init"].array._data.strides == (8,)
    counts = frame.groupby(["model", "init"], observed=True)["value"].count()
    assert counts.to_dict() == {("lstm", 0): 22, ("lstm", 1): 9}
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
