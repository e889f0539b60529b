from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import AnalysisError, load, load_status
from analysis.table import mean_sd, print_table
from atbptt import schema

WriteRun = Callable[..., Path]


def printed(root: Path, capsys: pytest.CaptureFixture[str], metric: str | None = None) -> list[str]:
    print_table(load(root), load_status(root), metric)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_rows_by_hand(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(sweep, capsys)
    assert lines[0] == "demo, dataset copy_fixed: best validation, mean (sd) over init"
    assert "policy runs valid PPL test PPL K epoch" in lines
    best = lines.index("adaptive delta=0.9 1 1.100 1.120 7.0 2.0")
    assert best < lines.index("fixed K=5 2 1.300 (0.141) 1.350 (0.141) 5.0 2.5")
    assert lines[-1] == f"Parquet: {sweep}/demo/<experiment_id>/{{options,metrics,gradients}}.parquet"
    assert not any("of 3 runs" in line for line in lines)  # all finished: no remark


def test_the_loss_is_named_as_such(root: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("a", {"valid_loss": [0.02], "test_loss": [0.03]}, dataset="linear")
    lines = printed(root, capsys)
    assert "policy runs valid loss test loss K epoch" in lines
    assert "fixed K=5 1 0.02000 0.03000 1.0" in lines


def test_a_table_for_each_dataset_with_its_own_columns(
    root: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("a", {"valid_ppl": [1.5]}, lr=1.0)
    write_run("b", {"valid_ppl": [1.4]}, lr=10.0)
    write_run("c", {"valid_ppl": [90.0]}, dataset="ptb", lr=3.0, name="other", folder="other")
    lines = printed(root, capsys)
    assert "policy lr runs valid PPL test PPL K epoch" in lines
    assert "fixed K=5 10 1 1.400 1.0" in lines
    assert "policy runs valid PPL test PPL K epoch" in lines
    assert "fixed K=5 1 90.00 1.0" in lines
    assert "other, dataset ptb: best validation, mean (sd) over init" in lines
    assert [line for line in lines if line.startswith("Parquet")] == [
        f"Parquet: {root}/{folder}/<experiment_id>/{{options,metrics,gradients}}.parquet"
        for folder in ("demo", "other")
    ]


def test_what_is_missing_is_counted_below(sweep: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("d00000000000", {"valid_ppl": [1.3, math.nan]}, state=schema.FAILED, init=2)
    write_run("e00000000000", {"valid_ppl": [1.9]}, state=schema.RUNNING, init=3)
    write_run("f00000000000", {"valid_ppl": [math.nan]}, init=4)
    write_run("ff0000000000", None, state=schema.RUNNING, init=5)
    lines = printed(sweep, capsys)
    assert "1 of 7 runs failed; evaluations before that count above: d00000000000" in lines
    unfinished = "2 of 7 runs not finished (running or killed); evaluations so far count above: "
    assert unfinished + "e00000000000 ff0000000000" in lines
    assert "1 of 7 runs left out, no evaluation: ff0000000000" in lines
    assert "1 of 7 runs left out, no finite value of the metric: f00000000000" in lines
    assert any(line.startswith("fixed K=5 4 1.450 (0.311)") for line in lines)  # 1.2 1.4 1.3 1.9


def test_many_ids_are_counted(root: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]) -> None:
    for init in range(8):
        write_run(f"{init:012x}", {"valid_ppl": [1.5]}, state=schema.FAILED, init=init)
    (line,) = (line for line in printed(root, capsys) if "failed" in line)
    assert line.startswith("8 of 8 runs failed")
    assert line.endswith("000000000005 and 2 more")


def test_long_cells_are_not_cut(
    root: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "x" * 150 + " [bold]"  # brackets are no markup
    write_run("a", {"valid_ppl": [1.5]}, truncation="mine", note=long)
    write_run("b", {"valid_ppl": [1.4]}, truncation="mine", note="short")
    shutil.copytree(root, root.parent / "a long [name] of a folder that does not fit")
    lines = printed(root.parent / "a long [name] of a folder that does not fit", capsys)
    assert f"mine {long} 1 1.500 1.0" in lines
    assert "long [name] of a folder that does not fit/demo/<experiment_id>/" in lines[-1]


def test_nothing_finite_is_an_error(root: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [math.inf]})
    with pytest.raises(AnalysisError, match="no finite validation loss in any of 1 runs"):
        print_table(load(root), load_status(root))


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (1.0361, 0.0042, "1.036 (0.004)"),
        (124.04, 1.26, "124.0 (1.3)"),
        (-4.7451, math.nan, "-4.745"),
        (0.003962, 0.00001, "0.003962 (0.000010)"),
        (3.2e8, 1e8, "3.200e+08 (1.000e+08)"),
        (0.0, 0.0, "0.000 (0.000)"),
        (math.nan, math.nan, ""),
    ],
)
def test_mean_sd(mean: float, sd: float, text: str) -> None:
    assert mean_sd(mean, sd) == text
