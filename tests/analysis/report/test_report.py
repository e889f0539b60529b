from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures import Drawing
from analysis.loading.results import Results
from analysis.report import page, render, write_report
from atbptt.errors import AnalysisError
from atbptt.runs import schema
from atbptt.system import StorageError
from tests.helpers.made import write_plan, write_status

MADE = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
EVIL = "</script></style><script>alert('x')</script><img src=x onerror=alert(1)>\" onclick=alert(2) '&amp;"
VOID = {"meta", "link", "input", "img"}
INLINE = {"a", "code", "span", "time"}  # need no space around them
WriteRun = Callable[..., Path]


class Document(HTMLParser):
    """A parsed page: every element with its attributes, text by section, table cells by section; tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.cells: dict[str, list[list[str]]] = {}
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._part(tag)
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))
        if tag == "tr":
            self.cells.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.cells[self.section][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1][0] == tag
        self._part(tag)
        self._open.pop()

    def _part(self, tag: str) -> None:
        if tag not in INLINE:
            self.texts[self.section] = self.texts.get(self.section, "") + " "

    def handle_data(self, data: str) -> None:
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if any(tag in ("td", "th") for tag, _ in self._open):
            self.cells[self.section][-1][-1] += data

    @property
    def section(self) -> str:
        return next((str(attrs["id"]) for tag, attrs in self._open if tag == "section"), "")

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds, and has tests of its own."""
    monkeypatch.setattr(page, "draw", lambda _: iter([]))


def document(*paths: Path) -> Document:
    return Document(render(Results(paths), MADE))


def remarks(read: Document) -> str:
    return read.text("summary").partition(" Runs ")[0]


def test_sections_have_anchors_and_nothing_comes_from_elsewhere(sweep: Path) -> None:
    read = document(sweep)
    identities = [attrs["id"] for _, attrs in read.elements if "id" in attrs]
    assert len(identities) == len(set(identities))
    sections = [attrs["id"] for attrs in read.attributes("section")]
    names = "summary leaderboard tables figures failures configuration environment problems"
    assert sections == names.split()
    assert [attrs["href"] for attrs in read.attributes("a")][: len(sections)] == [f"#{name}" for name in sections]
    links = {attrs[name] for _, attrs in read.elements for name in ("href", "src") if name in attrs}
    assert all(str(link).startswith(("#", "data:")) for link in links)
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= set(identities)


def test_only_its_own_script_and_style_may_run(sweep: Path) -> None:
    content = render(Results(sweep), MADE)
    policy = next(str(a["content"]) for a in Document(content).attributes("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_the_leaderboard_has_a_row_a_run_the_best_first(sweep: Path) -> None:
    heading, *rows = document(sweep).cells["leaderboard"]
    assert heading == ["rank", "policy", "init", "valid PPL", "test PPL", "K", "best epoch", "time", "state", "id"]
    assert rows == [
        ["1", "adaptive delta=0.9", "0", "1.1000", "1.1200", "7", "2", "0 s", "finished", "abcdefabcdef"],
        ["2", "fixed K=5", "0", "1.2000", "1.2500", "5", "2", "0 s", "finished", "000000000001"],
        ["3", "fixed K=5", "1", "1.4000", "1.4500", "5", "3", "0 s", "finished", "1e5000000000"],
    ]


def test_cells_carry_the_number_that_they_are_sorted_by(sweep: Path) -> None:
    numbers = [attrs.get("data-number") for attrs in document(sweep).attributes("td")][:10]
    assert numbers == ["1.0", None, "0.0", "1.1", "1.12", "7.0", "2.0", "0.5", "2.0", None]


def test_options_that_vary_are_columns_and_runs_without_a_value_come_last(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [float("nan")], "test_ppl": [1.0]}, lr=10.0)
    write_run("b", {"valid_ppl": [2.0], "test_ppl": [float("inf")]}, lr=1.0)
    write_run("c", None, state=schema.RUNNING, lr=0.1)
    read = document(outputs)
    heading, *rows = read.cells["leaderboard"]
    assert heading[:5] == ["rank", "policy", "lr", "init", "valid PPL"]
    assert [[*row[:3], row[4], row[5], row[-1]] for row in rows] == [
        ["1", "fixed K=5", "1", "2.0000", "inf", "b"],
        ["", "fixed K=5", "10", "", "", "a"],
        ["", "fixed K=5", "0.1", "", "", "c"],
    ]
    assert "Infinity" in {attrs.get("data-number") for attrs in read.attributes("td")}


def test_runs_of_two_data_sets_are_ranked_apart(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [2.0]})
    write_run("b", {"valid_nll": [-5.0]}, dataset="book_order")
    write_run("c", {"valid_nll": [-4.0]}, dataset="book_order")
    read = document(outputs)
    heading, *rows = read.cells["leaderboard"]
    assert heading[heading.index("metric") + 1] == "valid loss"
    assert [(row[0], row[-1]) for row in rows] == [("1", "b"), ("2", "c"), ("1", "a")]
    assert "Best valid NLL, book_order -5.0000" in read.text("summary")
    assert "Best valid PPL, copy_fixed 2.0000" in read.text("summary")
    assert "fixed K=5, init=0; epoch" in read.text("summary")  # the data set tells no two rivals apart


def test_the_summary_names_command_counts_time_and_best(outputs: Path, sweep: Path) -> None:
    runs = {name: outputs / "demo" / name for name in ("000000000001", "1e5000000000", "abcdefabcdef")}
    write_plan(outputs, "first", runs)
    text = document(sweep).text("summary")
    assert "python launch.py -m lr=1,10" in text
    assert "on node0.cluster, ended; 3 runs: 3 finished" in text
    assert "Runs 3 3 finished Training 2 s" in text  # 1.5 s, rounded to even
    assert "Best valid PPL 1.1000 test 1.1200; adaptive delta=0.9, init=0; epoch 2, K 7; run abcdefabcdef" in text
    assert "the best of 3" in text


def test_the_table_of_results_is_there(sweep: Path) -> None:
    read = document(sweep)
    assert "mean (sd) over init" in read.text("tables")
    assert ["fixed K=5", "2", "1.300 (0.141)"] in [row[:3] for row in read.cells["tables"]]


def test_failures_of_one_reason_stand_together(outputs: Path) -> None:
    runs = [write_status(outputs / "demo" / name, schema.FAILED, error="ValueError: no") for name in ("a1", "b2")]
    runs.append(write_status(outputs / "demo" / "c3", schema.RUNNING))  # nobody holds it: killed
    for run in runs:
        _options(run)
    trace = "Traceback (most recent call last):\n  \x1b[31mFile\x1b[0m \x00<b>bold</b>\nValueError: no\n"
    (runs[0] / schema.TRACEBACK).write_text(trace)
    (runs[2] / schema.OUTPUT).write_text("the last line\n")
    read = document(outputs)
    text = read.text("failures")
    assert "failed ValueError: no 2 runs: demo/a1, demo/b2 Traceback of demo/a1" in text
    assert "Traceback (most recent call last): File <b>bold</b> ValueError: no" in text
    assert "stale killed at epoch 2 1 run: demo/c3 Traceback: none, but the last output" in text
    assert text.endswith("The last that it printed: the last line")
    assert len(read.attributes("details")) >= 2
    assert "0 of 3 runs finished; 3 went wrong." in remarks(read)
    assert "2 of 3 runs failed (failures)" in remarks(read)
    assert "1 of 3 runs were killed" in remarks(read)


def test_before_the_first_evaluation_the_sections_say_so(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", None, state=schema.INTERRUPTED)
    read = document(outputs)
    assert read.text("tables") == "Tables No run has a finite validation yet."
    assert read.text("figures") == "Figures No run has been evaluated yet."
    assert read.text("failures") == "Failures No run failed."
    assert [row[-2:] for row in read.cells["leaderboard"]] == [["state", "id"], ["interrupted", "a"]]
    assert "0 of 1 run finished; the results below are of what has been evaluated." in remarks(read)
    assert "1 of 1 run interrupted: the same command again continues them" in remarks(read)


def test_a_single_run(write_run: WriteRun) -> None:
    read = document(write_run("a", {"valid_ppl": [1.5, 1.2, 1.3], "K": [5, 5, 5]}))
    assert remarks(read) == "Summary The one run finished."
    assert read.text("configuration").startswith("Configuration No option differs: there is one run.")


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="no runs here or below"):
        write_report(Results(tmp_path), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_what_users_name_is_text_and_nothing_else(outputs: Path, write_run: WriteRun) -> None:
    names = {"name": EVIL, "dataset": EVIL, "truncation": EVIL, "model": EVIL, EVIL: "a"}
    run = write_run("a", {"valid_ppl": [1.5, 1.2]}, **names)
    write_run("b", {"valid_ppl": [1.5, 1.2]}, **{**names, EVIL: EVIL})
    broken = write_run("c", {"valid_ppl": [1.0]}, **names)
    (broken / schema.ENVIRONMENT).write_text("{")
    write_status(broken, schema.FAILED, error=EVIL, host=EVIL)
    (broken / schema.TRACEBACK).write_text(EVIL)
    _environment(run, commit=EVIL, host=EVIL, numpy=EVIL)
    write_plan(outputs, "first", {EVIL: run}, command=["launch.py", EVIL], host=EVIL)
    read = document(outputs)
    assert [name for name, _ in read.elements if name in ("script", "img")] == ["script"]
    assert {name for _, attrs in read.elements for name in attrs if name.startswith("on")} == set()
    for section in ("summary", "leaderboard", "failures", "configuration", "environment"):
        assert EVIL in read.texts[section], section


def test_options_by_whether_they_differ(outputs: Path, write_run: WriteRun) -> None:
    for index, lr in enumerate((1.0, 10.0, 1.0)):
        write_run(f"{index}", None, lr=lr, init=index)
    write_run("3", None, init=3, truncation__K=None, truncation__delta=0.9)
    read = document(outputs)
    rows = [[" ".join(cell.split()) for cell in row] for row in read.cells["configuration"]]
    assert ["lr", "1 × 3 10 × 1"] in rows
    assert ["truncation.K", "5 × 3 not set × 1"] in rows
    assert ["init", "0 × 1 1 × 1 2 × 1 3 × 1"] in rows
    assert "model.hidden" not in [row[0] for row in rows]
    assert "model.hidden 4" in read.text("configuration")


def test_environments_are_counted_and_their_differences_shown(sweep: Path) -> None:
    first, second, third = sorted((sweep / "demo").iterdir())
    _environment(first, commit="aaa", host="node1", numpy="2.0")
    _environment(second, commit="aaa", host="node2", numpy="2.0")
    _environment(third, commit="bbb", host="node1", numpy="2.1", dirty=True)
    read = document(sweep)
    text = read.text("environment")
    assert (
        "2 runs with Python 3.11.7, code at aaa 1 run with Python 3.11.7, code at bbb with uncommitted changes" in text
    )
    assert read.cells["environment"] == [
        ["package", "2 runs", "1 run"],
        ["numpy", "2.0", "2.1"],
        ["runs", "hosts", "system", "processor", "cores", "memory (GiB)", "gpus", "cuda"],
        ["3", "node1, node2", "Linux", "EPYC", "2", "23.5", "none", "none"],
    ]
    assert "the runs come from 2 versions of the code (environment)" in remarks(read)
    assert "1 run ran code with uncommitted changes" in remarks(read)


def test_what_cannot_be_read_is_reported(sweep: Path) -> None:
    first, second, _ = sorted((sweep / "demo").iterdir())
    (first / schema.METRICS).write_bytes(b"no table")
    (second / schema.ENVIRONMENT).write_text('{"attempts": [{}]}')
    read = document(sweep)
    assert f"{first / schema.METRICS}: " in read.text("problems")
    assert f"{second / schema.ENVIRONMENT}: lacks 'code'; environment unknown" in read.text("problems")
    assert "2 problems while reading: some files were left out (problems)" in remarks(read)


def test_of_a_run_in_two_folders_the_longer_one_counts(outputs: Path, write_run: WriteRun) -> None:
    write_status(write_run("a", {"valid_ppl": [1.5, 1.2, 1.3]}, folder="first"), schema.FINISHED, epoch=3.0)
    write_status(write_run("a", {"valid_ppl": [1.5]}, folder="second"), schema.FAILED, epoch=1.0)
    read = document(outputs)
    assert [row[-2:] for row in read.cells["leaderboard"][1:]] == [["finished", "a"]]
    assert "is also in" in read.text("problems")


def test_the_same_runs_give_the_same_page(sweep: Path) -> None:
    first, again = (render(Results(sweep), MADE) for _ in range(2))
    assert first == again
    later = render(Results(sweep), MADE.replace(year=2027))
    changed = [line for line, other in zip(first.splitlines(), later.splitlines(), strict=True) if line != other]
    assert len(changed) == 1
    assert "made <time>2026-05-04 03:02:01 UTC</time>" in changed[0]


def test_the_file_is_whole_or_not_there(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "report.html"
    assert write_report(Results(sweep), target) == target
    content = target.read_text()
    Document(content)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"report\.html cannot be written: No space left on device"):
        write_report(Results(sweep), target)
    assert target.read_text() == content
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_a_folder_is_no_file_to_write_to(sweep: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, Path("")):
        with pytest.raises(AnalysisError, match=f"^{folder}: is a folder; give a file to write to$"):
            write_report(Results(sweep), folder)


def test_figures_are_images_within_the_page(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure(figsize=(4, 2))
    figure.subplots().plot([0, 1])
    drawing = Drawing("curve_x", "A curve", 'It says "up" & <more>.', figure)
    monkeypatch.setattr(page, "draw", lambda _: iter([drawing]))
    read = document(sweep)
    (image,) = read.attributes("img")
    assert image["alt"] == 'A curve. It says "up" & <more>.'
    kind, _, content = str(image["src"]).partition(",")
    assert kind == "data:image/png;base64"
    width, height = Image.open(io.BytesIO(base64.b64decode(content))).size
    assert (image["width"], image["height"]) == (str(width // 2), str(height // 2))
    assert width / height == pytest.approx(2, rel=0.2)
    assert read.text("figures") == 'Figures Click a figure for its full size. A curve It says "up" & <more>.'


def _options(directory: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"experiment_id": directory.name, "name": "demo", "truncation": "fixed", "truncation.K": 5, "init": 0}
    pq.write_table(pa.Table.from_pylist([row]), directory / schema.OPTIONS)


def _environment(directory: Path, commit: str, host: str, numpy: str, dirty: bool = False) -> None:
    code = {
        "repositories": [{"path": "/home/me/atbptt", "commit": commit, "dirty": dirty}],
        "python": "3.11.7",
        "packages": {"numpy": numpy, "torch": "2.13.0"},
    }
    machine = {"host": host, "system": "Linux", "processor": "EPYC", "cores": 2, "memory_gib": 23.5, "gpus": []}
    attempts = [{"started": 1000.0, "code": code, "machine": {**machine, "cuda": None, "slurm_job": None}}]
    (directory / schema.ENVIRONMENT).write_text(json.dumps({"attempts": attempts}))
