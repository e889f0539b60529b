from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from analysis import best_validation, load, load_status
from analysis.tables.remarks import file_patterns, remarks
from atbptt.runs import schema

WriteRun = Callable[..., Path]


def remarks_of(outputs: Path) -> list[str]:
    frame = load(outputs)
    return remarks(frame, load_status(outputs), best_validation(frame))


def test_all_finished_is_no_remark(sweep: Path) -> None:
    assert remarks_of(sweep) == []


def test_what_is_missing_is_counted(sweep: Path, write_run: WriteRun) -> None:
    write_run("d00000000000", {"valid_ppl": [1.3, math.nan]}, state=schema.FAILED, init=2)
    write_run("e00000000000", {"valid_ppl": [1.9]}, state=schema.RUNNING, init=3)
    write_run("f00000000000", {"valid_ppl": [math.nan]}, init=4)
    write_run("ff0000000000", None, state=schema.RUNNING, init=5)
    assert remarks_of(sweep) == [
        "1 of 7 runs failed; evaluations before that count above: d00000000000",
        "2 of 7 runs not finished (running or killed); evaluations so far count above: e00000000000 ff0000000000",
        "1 of 7 runs left out, no evaluation: ff0000000000",
        "1 of 7 runs left out, no finite value of the metric: f00000000000",
    ]


def test_many_ids_are_counted(outputs: Path, write_run: WriteRun) -> None:
    for init in range(8):
        write_run(f"{init:012x}", {"valid_ppl": [1.5]}, state=schema.FAILED, init=init)
    (line,) = remarks_of(outputs)
    assert line.startswith("8 of 8 runs failed")
    assert line.endswith("000000000005 and 2 more")


def test_a_pattern_for_each_folder(outputs: Path, write_run: WriteRun) -> None:
    for name, folder in (("a", "one"), ("b", "two"), ("c", "two")):
        write_run(name, {"valid_ppl": [1.5]}, folder=folder)
    files = "<experiment_id>/*.parquet"
    assert file_patterns(load_status(outputs)) == [f"{outputs}/one/{files}", f"{outputs}/two/{files}"]
