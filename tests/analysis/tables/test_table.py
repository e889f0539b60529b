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
    "experiment,dataset,metric,policy,runs,planned,valid_mean,valid_sd,valid_low,valid_high,test_mean,test_sd,test_low,"
    "test_high,K_mean,epoch_mean"
)
FEW = "too few runs to tell policies apart: that takes 3 inits of each"


def printed(results: Results, capsys: pytest.CaptureFixture[str], **options: str) -> list[str]:
    print_table(results, **options)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_values_by_hand(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(Results(sweep), capsys)
    assert lines[:2] + lines[3:6] == [
        "demo, dataset copy_fixed: best validation, mean (sd) over init",
        "policy runs valid PPL test PPL K epoch",
        "adaptive delta=0.9 1 1.100 1.120 7.0 2.0",
        "fixed K=5 2 1.300 (0.141) 1.350 (0.141) 5.0 2.5",
        FEW,
    ]
    assert lines[-1] == f"Parquet: {sweep}/demo/<experiment_id>/*.parquet"
    assert not any("of 3 runs" in line for line in lines)  # all finished: no remark
    (table,) = result_tables(Results(sweep))
    assert table.keys == {"experiment": "demo", "dataset": "copy_fixed", "metric": "valid_ppl"}
    assert not any(cell.bold for row in table.rows for cell in row)  # of so few runs nothing can be told


def test_what_runs_cost_and_are_called_is_shown_where_any_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes and tags make no settings: of the runs of a row each is shown once, and shortened but in CSV."""
    cost = {"processor_seconds": [20, 1200.0], "peak_memory_mb": [350.0, 360.5]}
    long = " ".join(["word"] * 20)
    runs = [
        run("a", {"valid_loss": [9, 2], **cost}, tags="night, long", notes="first"),
        run("b", {"valid_loss": [9, 3], **cost}, init=1, tags="night", notes=long),
        run("c", {"valid_loss": [9, 4]}, truncation__K=7, tags=None, notes=None),
    ]
    (table,) = result_tables(results(*runs))
    words = "first; " + " ".join(["word"] * 10) + " ..."
    assert [row[-4:] for row in texts(table)] == [
        ["processor s in all", "peak MB", "tags", "notes"],
        ["1200", "360", "night, long", words],
        ["", "", "", ""],
    ]
    print_table(results(*runs), format="csv")
    assert f'1200.0,360.5,"night, long",first; {long}' in capsys.readouterr().out
    main, every = result_tables(results(*runs, run("d", {"valid_loss": [9, 5], **cost}, lr=3.0)))
    assert [texts(each)[0][-4:] for each in (main, every)] == [
        ["K", "epoch", "tags", "notes"],  # those of a policy's best setting are below
        ["processor s in all", "peak MB", "tags", "notes"],
    ]


def test_from_three_runs_on_there_are_intervals_and_bold() -> None:
    values = {5: (1.0, 2, 3), 10: (1.1, 2.0, 3), 20: (5.0, 6, 7.1)}
    runs = [
        run(f"{K}-{init}", {"valid_loss": [9, value], "test_loss": [9, value + 1]}, init=init, truncation__K=K)
        for K, each in values.items()
        for init, value in enumerate(each)
    ]
    (table,) = result_tables(results(*runs))
    assert texts(table)[:2] == [
        ["policy", "runs", "valid loss", "test loss", "95% interval", "K", "epoch"],
        ["fixed K=5", "3", "2.000 (1.000)", "3.000 (1.000)", "[0.516, 5.484]", "", "1.0"],
    ]
    assert [[cell.bold for cell in row][2:4] for row in table.rows] == [[True, True], [True, True], [False, False]]
    assert table.notes == [
        "bold: cannot be told from the best (Student's t test at equal init, corrected for all pairs)",
        "intervals are over init: what another draw of the data or of probes changes is not in them",
    ]
    (table,) = result_tables(results(*runs[:-1]))
    assert table.notes[0].endswith("; rows of fewer than 3 runs are not tested")
    seeds = [part.assign(seed=int(part["init"].iloc[0])) for part in runs]
    (table,) = result_tables(results(*seeds))
    assert table.title == "dataset copy: best validation, mean (sd) over init and seed"
    assert len(table.notes) == 1


def test_each_policy_stands_at_its_best_options_and_test_is_told_only_there() -> None:
    values = {(5, 1.0): (2, 3), (5, 3.0): (2.6, 2.8), (5, 10.0): (4, 4), (9, 1.0): (1, 1), (9, 3.0): (2, 2)}
    runs = [
        run(f"{K}-{lr}-{i}", {"valid_loss": [9, v], "test_loss": [9, v]}, init=i, truncation__K=K, lr=lr, epochs=1.0)
        for (K, lr), each in values.items()
        for i, v in enumerate(each)
    ]
    best, every = result_tables(results(*runs))
    assert best.title == "dataset copy: each policy at the options that validate best, mean (sd) over init"
    assert [row[:6] for row in texts(best)] == [
        ["policy", "lr", "chosen", "runs", "valid loss", "test loss"],
        ["fixed K=9", "1", "best of 2, lr at the edge", "2", "1.000 (0.000)", "1.000 (0.000)"],
        ["fixed K=5", "1", "best of 3, lr at the edge", "2", "2.500 (0.707)", "2.500 (0.707)"],
    ]
    assert every.title == "dataset copy: every setting, best validation, mean (sd) over init"
    assert [row[:2] + row[4:5] for row in texts(every)[1:]] == [
        ["fixed K=9", "1", "1.000 (0.000)"],
        ["fixed K=9", "3", ""],
        ["fixed K=5", "1", "2.500 (0.707)"],
        ["fixed K=5", "3", ""],
        ["fixed K=5", "10", ""],
    ]


def test_the_learning_rate_in_force_is_told_where_it_is_not_the_one_typed() -> None:
    (table,) = result_tables(results(run("a", {"valid_loss": [9, 1], "lr": [1.0, 1.0]})))
    assert "lr in force" not in texts(table)[0]
    (table,) = result_tables(results(run("a", {"valid_loss": [9, 1], "lr": [1.0, 5**0.5]})))
    assert texts(table)[:2] == [
        ["policy", "runs", "valid loss", "test loss", "lr in force", "K", "epoch"],
        ["fixed K=5", "1", "1.000", "", "2.24", "", "1.0"],
    ]
    assert table.notes == ["lr in force: after scaling with K and decay, at the best validation"]


def test_point_processes_have_event_error_and_rmse_at_the_best_nll() -> None:
    metrics = {
        "valid_nll": [2.0, 1.0],
        "test_nll": [2.5, 1.5],
        "test_event_error": [0.1, 0.4],
        "test_time_rmse": [0.25, 0.5],
        "valid_event_error": [0.5, 0.4],
    }
    made = results(run("a", metrics), run("b", metrics | {"test_event_error": [0.1, 0.2]}, init=1))
    assert texts(*result_tables(made)) == [
        ["policy", "runs", "valid NLL", "test NLL", "event error", "time RMSE", "K", "epoch"],
        ["fixed K=5", "2", "1.000 (0.000)", "1.500 (0.000)", "0.3000 (0.1414)", "0.5000 (0.0000)", "", "1.0"],
    ]
    (table,) = result_tables(made, "valid_event_error")
    assert texts(table)[1][2:5] == ["0.4000 (0.0000)", "0.3000 (0.1414)", "0.5000 (0.0000)"]  # not the error twice


def test_a_table_for_each_experiment_and_dataset_with_its_own_columns() -> None:
    runs = [run(f"{K}", {"valid_ppl": [9, 1.5 - K / 100]}, truncation__K=K, epochs=K, name="demo") for K in (1, 10)]
    runs += [run(name, {"valid_ppl": [90.0]}, dataset="ptb", lr=3.0, name=name) for name in ("other", "third")]
    tables = result_tables(results(*runs))
    titles = [table.title.partition(":")[0] for table in tables]
    assert titles == ["demo, dataset copy", "other, dataset ptb", "third, dataset ptb"]
    assert texts(tables[0])[0] == ["policy", "epochs", "runs", "remarks", "valid PPL", "test PPL", "K", "epoch"]
    assert texts(tables[1])[1:] == [["fixed K=5", "1", "90.00", "", "", "0.0"]]


def test_remarks_stand_below(
    sweep: Path, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.tables.table.SHOWN_IDS", 1)
    budget = {"epochs": 3.0}
    write_run("d00000000000", {"valid_ppl": [1.3, math.nan]}, state=schema.FAILED, init=2, **budget)
    write_run("e00000000000", {"valid_ppl": [1.9]}, state=schema.RUNNING, init=3, **budget)
    write_run("f00000000000", {"valid_ppl": [math.nan]}, init=4, **budget)
    write_run("ff0000000000", None, state=schema.RUNNING, init=5, folder="other", **budget)
    lines = printed(Results(sweep), capsys)
    assert lines[-7:] == [
        "1 of 7 runs failed: d00000000000",
        "2 of 7 runs are not finished (running or killed): e00000000000 and 1 more",
        "2 of 7 runs diverged: d00000000000 and 1 more",
        "1 of 7 runs have no evaluation: ff0000000000",
        "1 of 7 runs have no finite value of the metric: f00000000000",
        *(f"Parquet: {sweep}/{folder}/<experiment_id>/*.parquet" for folder in ("demo", "other")),
    ]
    row = next(line for line in lines if line.startswith("fixed K=5"))
    assert row.startswith("fixed K=5 2 of 6 diverged, 2 stale, unfinished 1.300 (0.141)")  # 1.2 and 1.4 alone
    write_run("fff000000000", {"valid_error": [3.0]}, init=6, folder="error")
    lines = printed(Results(sweep / "error"), capsys, metric="valid_error")
    assert not [line for line in lines if "no finite value" in line]
    assert lines[0].endswith(": best validation")  # of one run: neither mean nor sd


def test_comparisons_stand_below_where_policies_share_inits(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(K, init) for K in range(1, 15) for init in range(4)]
    runs = [run(f"{K}_{init}", {"valid_loss": [99, 1.0 + K + init]}, init=init, truncation__K=K) for K, init in pairs]
    lines = printed(results(*runs), capsys, against="fixed K=2")
    start = lines.index("dataset copy: difference from fixed K=2 at equal init, mean (sd)")
    assert lines[start + 3] == "fixed K=1 4 -1.000 (0.000) [-1.000, -1.000] < 0.001 better"
    assert lines[start + 13] == "and 3 more rows"
    assert any("time to a valid loss of at most 6" in line for line in lines)  # all runs of K=1 and K=2 get there


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
    assert len(table.notes) == 4
