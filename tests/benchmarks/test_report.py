from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import (
    HEADINGS,
    WIDTH,
    Comparison,
    Goal,
    Row,
    duration,
    markdown,
    megabytes,
    one_line,
    print_table,
    save,
)
from benchmarks.timing import Measured

OURS = Measured((0.05, 0.04, 0.06), memory_bytes=12_000_000)
PLAIN = Measured((0.2, 0.1, 0.3), memory_bytes=48_000_000)
FASTER = Row(
    "probe",
    "H50",
    OURS,
    "a probe",
    Comparison("plain", PLAIN, "its / ours", goal=Goal("at least", 5)),
    floor_seconds=0.02,
)
SLOWER = Row("training", "K15", OURS, "a window", Comparison("bare", PLAIN, "ours / its", goal=Goal("at most", 1.1)))
ALONE = Row("growing", "W50", Measured((3e-6,)), "a lag")
ROWS = (FASTER, SLOWER, ALONE)
MACHINE = {"CPU": "a processor", "cores": "2"}


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [
        (Goal("at least", 4), 4.0, True),
        (Goal("at least", 4), 3.9, False),
        (Goal("at most", 1.1), 1.1, True),
        (Goal("at most", 1.1), 1.2, False),
    ],
)
def test_a_goal_is_a_bound(goal: Goal, ratio: float, met: bool) -> None:
    assert goal.met(ratio) is met


def test_a_time_may_have_a_goal_of_its_own() -> None:
    for limit, cell in (
        (Goal("at most", 0.05), "at most 0.05 s: met"),
        (Goal("at most", 0.04), "at most 0.04 s: missed"),
    ):
        row = Row("starting", "20 runs", OURS, "a run", limit=limit)
        assert row.cells()[HEADINGS.index("goal")] == cell
        assert row.record()["limit"] == str(limit)


def test_the_cells_say_what_is_over_what() -> None:
    assert FASTER.cells() == [
        "probe",
        "H50",
        "50 ms a probe",
        "200 ms",
        "4 = plain / ours",
        "at least 5: missed",
        "2.5",
        "12 MB, against 48 MB",
    ]
    assert SLOWER.cells()[3:7] == ["200 ms", "0.25 = ours / bare", "at most 1.1: met", ""]
    assert ALONE.cells() == ["growing", "W50", "3 us a lag", "", "", "", "", ""]


def test_a_row_as_a_line_of_progress() -> None:
    assert one_line(FASTER) == "probe, H50: 50 ms a probe against 200 ms: 4 = plain / ours, goal at least 5: missed"
    assert one_line(ALONE) == "growing, W50: 3 us a lag"


def test_what_is_stored(tmp_path: Path) -> None:
    paths = save(tmp_path / "new", ROWS, MACHINE, ["a note"])
    assert [path.name for path in paths] == ["results.json", "results.md"]
    stored = json.loads(paths[0].read_text())
    assert stored["machine"] == MACHINE
    assert stored["notes"] == ["a note"]
    assert stored["rows"][0] == {
        "what": "probe",
        "size": "H50",
        "unit": "a probe",
        "median_seconds": 0.05,
        "seconds": [0.05, 0.04, 0.06],
        "memory_bytes": 12_000_000,
        "floor_seconds": 0.02,
        "over_floor": 2.5,
        "limit": None,
        "against": {
            "name": "plain",
            "median_seconds": 0.2,
            "seconds": [0.2, 0.1, 0.3],
            "memory_bytes": 48_000_000,
            "ratio": 4.0,
            "ratio_of": "plain / ours",
            "goal": "at least 5",
            "met": False,
        },
    }
    assert stored["rows"][1]["against"]["met"] is True
    assert stored["rows"][2]["against"] is None
    assert paths[1].read_text() == markdown(ROWS, MACHINE, ["a note"])


def test_the_markdown_is_one_table_and_the_machine() -> None:
    lines = markdown(ROWS, MACHINE, ["a note"]).splitlines()
    assert lines[0] == f"| {' | '.join(HEADINGS)} |"
    assert {line.count("|") for line in lines[:5]} == {len(HEADINGS) + 1}
    assert lines[4].startswith("| growing | W50 | 3 us a lag |")
    assert lines[5:] == ["", "- CPU: a processor", "- cores: 2", "- a note"]


def test_the_terminal_shows_every_row_and_the_machine() -> None:
    shown = io.StringIO()
    print_table(ROWS, MACHINE, ["a note"], Console(file=shown, width=WIDTH))
    lines = shown.getvalue().splitlines()
    assert len(lines) == 1 + len(ROWS) + len(MACHINE) + 1
    assert "4 = plain / ours" in lines[1]
    assert lines[-3:] == ["CPU: a processor", "cores: 2", "a note"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(61.2, "61.2 s"), (0.0561, "56.1 ms"), (2.5e-5, "25 us"), (3.1e-8, "31 ns")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_megabytes() -> None:
    assert megabytes(12_400_000) == "12 MB"
    assert megabytes(None) == ""
