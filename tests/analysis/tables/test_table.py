from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis import AnalysisError
from analysis.loading import Results
from analysis.tables.cells import Table
from analysis.tables.published import settings
from analysis.tables.table import print_table, result_tables
from atbptt.runs import schema

WriteRun = Callable[..., Path]
CSV_HEADER = (
    "experiment,dataset,metric,policy,runs,valid_mean,valid_sd,valid_low,valid_high,test_mean,test_sd,test_low,"
    "test_high,K_mean,epoch_mean"
)


def printed(outputs: Path, capsys: pytest.CaptureFixture[str], metric: str | None = None) -> list[str]:
    print_table(Results(outputs), metric)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def texts(table: Table) -> list[list[str]]:
    return [[column.heading for column in table.columns], *([cell.text for cell in row] for row in table.rows)]


def test_rows_by_hand(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(sweep, capsys)
    assert lines[0] == "demo, dataset copy_fixed: best validation, mean (sd) over init"
    assert lines[1] == "policy runs valid PPL test PPL K epoch"
    assert lines[3:5] == [
        "adaptive delta=0.9 1 1.100 1.120 7.0 2.0",
        "fixed K=5 2 1.300 (0.141) 1.350 (0.141) 5.0 2.5",
    ]
    assert lines[-1] == f"Parquet: {sweep}/demo/<experiment_id>/*.parquet"
    assert not any("of 3 runs" in line for line in lines)  # all finished: no remark


def test_values_and_the_best_of_each_column(sweep: Path) -> None:
    (table,) = result_tables(Results(sweep))
    assert [[cell.best for cell in row] for row in table.rows] == [
        [False, False, True, True, False, False],
        [False] * 6,
    ]
    moments = table.frame[[f"valid_{part}" for part in ("mean", "sd", "low", "high")]].to_numpy()
    expected = [[1.1, math.nan, math.nan, math.nan], [1.3, 0.2 / math.sqrt(2), 1.2, 1.4]]
    assert moments == pytest.approx(np.array(expected), nan_ok=True)
    assert table.keys == {"experiment": "demo", "dataset": "copy_fixed", "metric": "valid_ppl"}


def test_from_four_runs_on_there_is_an_interval(outputs: Path, write_run: WriteRun) -> None:
    for init in range(4):
        write_run(f"a{init}", {"valid_ppl": [1.5], "test_ppl": [1.0 + init]}, init=init)
    write_run("b", {"valid_ppl": [1.6], "test_ppl": [2.0]}, truncation__K=10)
    (table,) = result_tables(Results(outputs))
    # Of 256 resamples of 1 2 3 4 the lowest and the highest 2.5 % end at 1.5 and 3.5.
    assert texts(table) == [
        ["policy", "runs", "valid PPL", "test PPL", "95% interval", "K", "epoch"],
        ["fixed K=5", "4", "1.500 (0.000)", "2.500 (1.291)", "[1.500, 3.500]", "", "1.0"],
        ["fixed K=10", "1", "1.600", "2.000", "", "", "1.0"],
    ]


def test_point_processes_have_event_error_and_rmse_at_the_best_nll(outputs: Path, write_run: WriteRun) -> None:
    metrics = {
        "valid_nll": [2.0, 1.0],
        "test_nll": [2.5, 1.5],
        "test_event_error": [0.1, 0.4],
        "test_time_rmse": [0.25, 0.5],
        "valid_event_error": [0.1, 0.4],
    }
    write_run("a", metrics, dataset="events")
    (table,) = result_tables(Results(outputs))
    assert texts(table) == [
        ["policy", "runs", "valid NLL", "test NLL", "event error", "time RMSE", "K", "epoch"],
        ["fixed K=5", "1", "1.000", "1.500", "0.4000", "0.5000", "", "2.0"],
    ]
    (table,) = result_tables(Results(outputs), "valid_event_error")
    assert texts(table)[1][2:5] == ["0.1000", "0.1000", "0.2500"]  # not the error twice


def test_a_table_for_each_dataset_with_its_own_columns(
    outputs: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("a", {"valid_ppl": [1.5]}, lr=1.0)
    write_run("b", {"valid_ppl": [1.4]}, lr=10.0)
    write_run("c", {"valid_ppl": [90.0]}, dataset="ptb", lr=3.0, name="other", folder="other")
    write_run("d", {"valid_ppl": [80.0]}, dataset="ptb", lr=3.0, name="third", folder="other")
    lines = printed(outputs, capsys)
    assert "policy lr runs valid PPL test PPL K epoch" in lines
    assert "fixed K=5 10 1 1.400 1.0" in lines
    assert "policy runs valid PPL test PPL K epoch" in lines
    assert "fixed K=5 1 90.00 1.0" in lines
    assert [line.partition(":")[0] for line in lines if "best validation" in line] == [
        "demo, dataset copy_fixed",
        "other, dataset ptb",
        "third, dataset ptb",
    ]
    assert [line for line in lines if line.startswith("Parquet")] == [
        f"Parquet: {outputs}/{folder}/<experiment_id>/*.parquet" for folder in ("demo", "other")
    ]


def test_remarks_stand_below(
    sweep: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.tables.table.SHOWN_IDS", 1)
    write_run("d00000000000", {"valid_ppl": [1.3, math.nan]}, state=schema.FAILED, init=2)
    write_run("e00000000000", {"valid_ppl": [1.9]}, state=schema.RUNNING, init=3)
    write_run("f00000000000", {"valid_ppl": [math.nan]}, init=4)
    write_run("ff0000000000", None, state=schema.RUNNING, init=5)
    lines = printed(sweep, capsys)
    assert lines[-5:-1] == [
        "1 of 7 runs failed; evaluations before that count above: d00000000000",
        "2 of 7 runs not finished (running or killed); evaluations so far count above: e00000000000 and 1 more",
        "1 of 7 runs left out, no evaluation: ff0000000000",
        "1 of 7 runs left out, no finite value of the metric: f00000000000",
    ]
    assert any(line.startswith("fixed K=5 4 1.450 (0.311)") for line in lines)  # 1.2 1.4 1.3 1.9


def test_comparisons_stand_below_where_policies_share_inits(
    outputs: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for K in range(1, 15):
        for init in range(4):
            write_run(f"{K}_{init}", {"valid_ppl": [1.0 + K + init]}, init=init, truncation__K=K)
    lines = printed(outputs, capsys)
    start = lines.index("demo, dataset copy_fixed: difference from fixed K=1 at equal init, mean (sd)")
    assert lines[start + 3] == "fixed K=2 4 +1.000 (0.000) [+1.000, +1.000]"
    assert lines[start + 13] == "and 3 more rows"
    assert any("time to a valid PPL of at most 6" in line for line in lines)  # all runs of K=1 and K=2 get there


def test_long_cells_are_not_cut(
    outputs: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "x" * 150 + " [bold]"  # brackets are no markup
    write_run("a", {"valid_ppl": [1.5]}, truncation="mine", note=long)
    write_run("b", {"valid_ppl": [1.4]}, truncation="mine", note="short")
    shutil.copytree(outputs, outputs.parent / "a long [name] of a folder that does not fit")
    lines = printed(outputs.parent / "a long [name] of a folder that does not fit", capsys)
    assert f"mine {long} 1 1.500 1.0" in lines
    assert "long [name] of a folder that does not fit/demo/<experiment_id>/" in lines[-1]


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv"])
def test_other_formats_are_files_to_use(
    sweep: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write_run("d00000000000", {"valid_ppl": [9.3]}, state=schema.FAILED, init=2)
    print_table(Results(sweep), format=kind)
    out, err = capsys.readouterr()
    assert out.startswith({"markdown": "**demo,", "latex": "\\begin{table}", "csv": f"{CSV_HEADER}\n"}[kind])
    assert "Parquet" not in out
    assert "1 of 4 runs failed" in err
    assert err.endswith("<experiment_id>/*.parquet\n")


def test_an_unknown_format_is_named(sweep: Path) -> None:
    with pytest.raises(AnalysisError) as error:
        print_table(Results(sweep), format="late")
    expected = "format (=late) must be one of terminal, markdown, latex, csv; did you mean latex?"
    assert str(error.value) == expected


def test_published_values_stand_beside(outputs: Path, write_run: WriteRun) -> None:
    options = {name.replace(".", "__"): value for name, value in settings("book_order", "fixed").items()}
    for name, K in (("a", 3), ("b", 4)):
        write_run(name, {"valid_nll": [-4.7], "test_nll": [-4.6]}, **options, name="x", truncation__K=K)
    (table,) = result_tables(Results(outputs))
    assert texts(table) == [
        ["policy", "runs", "valid NLL", "test NLL", "published", "corrected", "K", "epoch"],
        ["fixed K=3", "1", "-4.700", "-4.600", "-4.694", "-5.054", "", "1.0"],
        ["fixed K=4", "1", "-4.700", "-4.600", "", "", "", "1.0"],
    ]
    assert len(table.notes) == 3
