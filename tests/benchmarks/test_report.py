import io
import json
from pathlib import Path

from atbptt.system import Console
from benchmarks.report import HEADINGS, WIDTH, Comparison, Goal, Row, duration, one_line, print_table, save
from benchmarks.timing import Measured

OURS = Measured((0.05, 0.04, 0.06), memory_bytes=12_000_000)
PLAIN = Measured((0.2, 0.1, 0.3), memory_bytes=48_000_000)
FASTER = Comparison("plain", PLAIN, "its / ours", goal=Goal("at least", 5))
SLOWER = Comparison("bare", PLAIN, "ours / its", goal=Goal("at most", 1.1))
ROWS = (
    Row("probe", "H50", OURS, "a probe", FASTER, floor_seconds=0.02),
    Row("training", "K15", OURS, "a window", SLOWER),
    Row("starting", "W50", Measured((3e-6,)), "a lag", limit=Goal("at most", 3e-6)),
)
CELLS = [  # joined as in Markdown
    "probe | H50 | 50 ms a probe | 200 ms | 4 = plain / ours | at least 5: missed | 2.5 | 12 MB, against 48 MB",
    "training | K15 | 50 ms a window | 200 ms | 0.25 = ours / bare | at most 1.1: met |  | 12 MB, against 48 MB",
    "starting | W50 | 3 us a lag |  |  | at most 3e-06 s: met |  | ",
]
MACHINE = {"CPU": "a processor", "cores": "2"}


def test_results_are_stored_as_json_and_markdown(tmp_path: Path) -> None:
    paths = save(tmp_path / "new", ROWS, MACHINE, ["a note"])
    assert [path.name for path in paths] == ["results.json", "results.md"]
    stored = json.loads(paths[0].read_text())
    assert (stored["machine"], stored["notes"]) == (MACHINE, ["a note"])
    row = stored["rows"][0]
    assert (row["seconds"], row["memory_bytes"], row["over_floor"]) == ([0.05, 0.04, 0.06], 12_000_000, 2.5)
    assert row["against"].items() >= {"seconds": [0.2, 0.1, 0.3], "ratio": 4.0, "goal": "at least 5"}.items()
    assert [row["against"] and row["against"]["met"] for row in stored["rows"]] == [False, True, None]
    lines = paths[1].read_text().splitlines()
    assert lines[0] == f"| {' | '.join(HEADINGS)} |"
    assert lines[2:5] == [f"| {cells} |" for cells in CELLS]
    assert lines[5:] == ["", "- CPU: a processor", "- cores: 2", "- a note"]


def test_the_terminal_shows_every_row_and_the_machine() -> None:
    assert one_line(ROWS[0]) == "probe, H50: 50 ms a probe against 200 ms: 4 = plain / ours, goal at least 5: missed"
    assert [duration(s) for s in (61.2, 0.0561, 2.5e-5, 3.1e-8)] == ["61.2 s", "56.1 ms", "25 us", "31 ns"]
    shown = io.StringIO()
    print_table(ROWS, MACHINE, ["a note"], Console(file=shown, width=WIDTH))
    lines = shown.getvalue().splitlines()
    assert len(lines) == 1 + len(ROWS) + len(MACHINE) + 1
    assert "4 = plain / ours" in lines[1]
    assert lines[-3:] == ["CPU: a processor", "cores: 2", "a note"]
