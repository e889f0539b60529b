import math
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from analysis import AnalysisError
from analysis.exporting import export
from analysis.loading.results import Results
from atbptt.runs import schema
from atbptt.system import StorageError
from tests.analysis.conftest import WriteRun


def read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"experiment_id": str})


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_csv_holds_every_row_and_digit(sweep: Path, write_run: WriteRun, tmp_path: Path) -> None:
    write_run("0000000000aa", {"valid_ppl": [1 / 3, math.inf, math.nan]})
    results = Results(sweep)
    options, metrics, _ = export(results, tmp_path / "out")
    stored = read_csv(metrics)
    expected = results.frame[schema.METRICS_SCHEMA.names].astype({"metric": str})
    pd.testing.assert_frame_equal(stored.astype({"replicate": "int32", "metric": str}), expected, check_exact=True)
    joined = stored.merge(read_csv(options), on="experiment_id", validate="many_to_one", suffixes=("", "_option"))
    assert len(joined) == len(results.frame)
    assert joined.loc[joined["experiment_id"] == "1e5000000000", "init"].unique().tolist() == [1]
    without_K = read_csv(options).set_index("experiment_id")["truncation.K"].isna()
    assert without_K.index[without_K].tolist() == ["abcdefabcdef"]


def test_event_files_hold_the_mean_over_replicates_and_the_options(
    sweep: Path, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("0000000000aa", {"valid_ppl": [1.5, math.inf, math.nan], "K_1": [[2, math.inf], [2, math.nan], [2, 3]]})
    export(Results(sweep), tmp_path)
    folders = tmp_path / "tensorboard" / "demo"
    assert scalars(folders / "abcdefabcdef", "truncation/K_0.9") == [(100, 8.5), (200, 6.5)]
    steps, values = zip(*scalars(folders / "1e5000000000", "evaluation/valid_ppl"), strict=True)
    assert (steps, values) == ((100, 200, 300), pytest.approx((1.9, 1.6, 1.4)))
    assert str(scalars(folders / "0000000000aa", "evaluation/valid_ppl")) == "[(100, 1.5), (200, inf), (300, nan)]"
    assert str(scalars(folders / "0000000000aa", "truncation/K_1")) == "[(100, inf), (200, nan), (300, 2.5)]"
    events = EventAccumulator(str(folders / "abcdefabcdef"))
    events.Reload()
    stored = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"truncation.delta" in stored
    assert b"truncation.K" not in stored


def test_exported_again_there_is_one_event_file_a_run_and_the_same_bytes(
    sweep: Path, tmp_path: Path, write_run: WriteRun
) -> None:
    write_run("0000000000aa", {"valid_ppl": [1.5]}, folder="other")
    events = "events.out.tfevents.0.atbptt"
    export(Results(sweep), tmp_path / "one")
    assert (tmp_path / "one" / "tensorboard" / "demo" / "0000000000aa" / events).exists()
    for name in ("one", "two"):
        export(Results(sweep / "demo"), tmp_path / name)
    files = content(tmp_path / "one")
    written = [f"tensorboard/demo/{run}/{events}" for run in ("000000000001", "1e5000000000", "abcdefabcdef")]
    assert sorted(files) == ["metrics.csv.gz", "options.csv", "tensorboard/.lock", *written]
    assert not (tmp_path / "one" / "tensorboard" / "demo" / "0000000000aa").exists()
    assert content(tmp_path / "two") == files


def test_runs_without_an_evaluation(outputs: Path, tmp_path: Path, write_run: WriteRun) -> None:
    write_run("0000000000aa", None, state=schema.RUNNING)
    options, metrics, _ = export(Results(outputs), tmp_path / "out")
    assert read_csv(options)["experiment_id"].tolist() == ["0000000000aa"]
    assert read_csv(metrics).columns.tolist() == schema.METRICS_SCHEMA.names
    assert read_csv(metrics).empty


def test_a_folder_that_cannot_be_written(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnalysisError, match="file: is a file; give a folder"):
        export(Results(sweep), tmp_path / "file")
    with pytest.raises(StorageError, match=r"^/proc/export/options.csv cannot be written: "):
        export(Results(sweep), Path("/proc/export"))
