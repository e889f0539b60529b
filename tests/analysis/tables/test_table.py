import math
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import AnalysisError
from analysis.loading import Results
from analysis.tables.published import settings
from analysis.tables.table import print_table, result_tables
from atbptt.runs import schema
from tests.helpers.made_runs import fixed_and_adaptive, results, run, texts

CSV_HEADER = (
    "experiment,dataset,metric,policy,runs,valid_mean,valid_sd,valid_low,valid_high,test_mean,test_sd,test_low,"
    "test_high,K_mean,epoch_mean"
)


def printed(results: Results, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_table(results)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_values_by_hand_and_the_best_of_each_column(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(Results(sweep), capsys)
    assert lines[:2] + lines[3:5] == [
        "demo, dataset copy_fixed: best validation, mean (sd) over init",
        "policy runs valid PPL test PPL K epoch",
        "adaptive delta=0.9 1 1.100 1.120 7.0 2.0",
        "fixed K=5 2 1.300 (0.141) 1.350 (0.141) 5.0 2.5",
    ]
    assert lines[-1] == f"Parquet: {sweep}/demo/<experiment_id>/*.parquet"
    assert not any("of 3 runs" in line for line in lines)  # all finished: no remark
    (table,) = result_tables(Results(sweep))
    best = [[cell.best for cell in row] for row in table.rows]
    assert best == [[False, False, True, True, False, False], [False] * 6]
    assert table.keys == {"experiment": "demo", "dataset": "copy_fixed", "metric": "valid_ppl"}


def test_from_four_runs_on_there_is_an_interval() -> None:
    runs = [run(f"{init}", {"valid_ppl": [1.5], "test_ppl": [1.0 + init]}, init=init) for init in range(4)]
    other = run("b", {"valid_ppl": [1.6], "test_ppl": [2.0]}, truncation__K=10)
    # Of 256 resamples of 1 2 3 4 the lowest and the highest 2.5 % end at 1.5 and 3.5.
    assert texts(*result_tables(results(*runs, other))) == [
        ["policy", "runs", "valid PPL", "test PPL", "95% interval", "K", "epoch"],
        ["fixed K=5", "4", "1.500 (0.000)", "2.500 (1.291)", "[1.500, 3.500]", "", "0.0"],
        ["fixed K=10", "1", "1.600", "2.000", "", "", "0.0"],
    ]


def test_point_processes_have_event_error_and_rmse_at_the_best_nll() -> None:
    metrics = {
        "valid_nll": [2.0, 1.0],
        "test_nll": [2.5, 1.5],
        "test_event_error": [0.1, 0.4],
        "test_time_rmse": [0.25, 0.5],
        "valid_event_error": [0.1, 0.4],
    }
    made = results(run("a", metrics), run("b", metrics | {"test_event_error": [0.1, 0.2]}, init=1))
    assert texts(*result_tables(made)) == [
        ["policy", "runs", "valid NLL", "test NLL", "event error", "time RMSE", "K", "epoch"],
        ["fixed K=5", "2", "1.000 (0.000)", "1.500 (0.000)", "0.3000 (0.1414)", "0.5000 (0.0000)", "", "1.0"],
    ]
    (table,) = result_tables(made, "valid_event_error")
    assert texts(table)[1][2:5] == ["0.1000 (0.0000)", "0.1000 (0.0000)", "0.2500 (0.0000)"]  # not the error twice


def test_a_table_for_each_experiment_and_dataset_with_its_own_columns() -> None:
    runs = [run(f"{lr}", {"valid_ppl": [1.5 - lr / 100]}, lr=lr, name="demo") for lr in (1.0, 10.0)]
    runs += [run(name, {"valid_ppl": [90.0]}, dataset="ptb", lr=3.0, name=name) for name in ("other", "third")]
    tables = result_tables(results(*runs))
    titles = [table.title.partition(":")[0] for table in tables]
    assert titles == ["demo, dataset copy", "other, dataset ptb", "third, dataset ptb"]
    assert texts(tables[0])[:2] == [
        ["policy", "lr", "runs", "valid PPL", "test PPL", "K", "epoch"],
        ["fixed K=5", "10", "1", "1.400", "", "", "0.0"],
    ]
    assert texts(tables[1])[1:] == [["fixed K=5", "1", "90.00", "", "", "0.0"]]


def test_remarks_stand_below(
    sweep: Path, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.tables.table.SHOWN_IDS", 1)
    write_run("d00000000000", {"valid_ppl": [1.3, math.nan]}, state=schema.FAILED, init=2)
    write_run("e00000000000", {"valid_ppl": [1.9]}, state=schema.RUNNING, init=3)
    write_run("f00000000000", {"valid_ppl": [math.nan]}, init=4)
    write_run("ff0000000000", None, state=schema.RUNNING, init=5, folder="other")
    lines = printed(Results(sweep), capsys)
    assert lines[-6:] == [
        "1 of 7 runs failed; evaluations before that count above: d00000000000",
        "2 of 7 runs not finished (running or killed); evaluations so far count above: e00000000000 and 1 more",
        "1 of 7 runs left out, no evaluation: ff0000000000",
        "1 of 7 runs left out, no finite value of the metric: f00000000000",
        *(f"Parquet: {sweep}/{folder}/<experiment_id>/*.parquet" for folder in ("demo", "other")),
    ]
    assert any(line.startswith("fixed K=5 4 1.450 (0.311)") for line in lines)  # 1.2 1.4 1.3 1.9


def test_comparisons_stand_below_where_policies_share_inits(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(K, init) for K in range(1, 15) for init in range(4)]
    runs = [run(f"{K}_{init}", {"valid_ppl": [99, 1.0 + K + init]}, init=init, truncation__K=K) for K, init in pairs]
    lines = printed(results(*runs), capsys)
    start = lines.index("dataset copy: difference from fixed K=1 at equal init, mean (sd)")
    assert lines[start + 3] == "fixed K=2 4 +1.000 (0.000) [+1.000, +1.000]"
    assert lines[start + 13] == "and 3 more rows"
    assert any("time to a valid PPL of at most 6" in line for line in lines)  # all runs of K=1 and K=2 get there


def test_long_cells_are_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "x" * 150 + " [bold]"  # brackets are no markup
    runs = [run(note, {"valid_ppl": [1.5]}, truncation="mine", note=note) for note in (long, "short")]
    folder = "a long [name] of a folder that does not fit"
    lines = printed(results(*runs, folder=folder), capsys)
    assert f"mine {long} 1 1.500 0.0" in lines
    assert lines[-1].startswith(f"Parquet: {folder}/")


def test_other_formats_are_files_to_use(capsys: pytest.CaptureFixture[str]) -> None:
    made = results(fixed_and_adaptive(), states={"a": schema.FAILED})
    for kind, start in {"markdown": "**dataset", "latex": "\\begin{table}", "csv": f"{CSV_HEADER}\n"}.items():
        print_table(made, format=kind)
        out, err = capsys.readouterr()
        assert out.startswith(start)
        assert "Parquet" not in out
        assert "1 of 3 runs failed" in err
        assert "Parquet: " in err
    with pytest.raises(AnalysisError) as error:
        print_table(made, format="late")
    expected = "format (=late) must be one of terminal, markdown, latex, csv; did you mean latex?"
    assert str(error.value) == expected


def test_published_values_stand_beside() -> None:
    options = {name.replace(".", "__"): value for name, value in settings("book_order", "fixed").items()}
    metrics = {"valid_nll": [-4.7], "test_nll": [-4.6]}
    runs = [run(f"{K}", metrics, **options | {"truncation__K": K}) for K in (3, 4)]
    (table,) = result_tables(results(*runs))
    assert texts(table) == [
        ["policy", "runs", "valid NLL", "test NLL", "published", "corrected", "K", "epoch"],
        ["fixed K=3", "1", "-4.700", "-4.600", "-4.694", "-5.054", "", "0.0"],
        ["fixed K=4", "1", "-4.700", "-4.600", "", "", "", "0.0"],
    ]
    assert len(table.notes) == 3
