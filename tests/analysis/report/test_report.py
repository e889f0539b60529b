from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections import defaultdict
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures import Drawing
from analysis.loading import Results
from analysis.report import page, render, write_report
from analysis.tables import result_tables
from atbptt.errors import UNPRINTABLE, AnalysisError, printable
from atbptt.runs import schema
from atbptt.system import StorageError
from tests.analysis.conftest import WriteRun
from tests.helpers.made import write_plan, write_status

MADE = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
EVIL = "</script></style><script>alert('x')</script><img src=x onerror=alert(1)>\" onclick=alert(2) '&amp;"
VOID = {"meta", "link", "input", "img"}
INLINE = {"a", "code", "span", "time"}  # need no space around them


class Document(HTMLParser):
    """A parsed page: its elements with their attributes; text and table cells by section. Tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = defaultdict(str)
        self.cells: dict[str, list[list[str]]] = defaultdict(list)
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        self.close()
        assert self._open == []

    @classmethod
    def of(cls, path: Path) -> Document:
        return cls(render(Results(path), MADE))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["id"])
        elif tag == "tr":
            self.cells[self._section].append([])
        elif tag in ("td", "th"):
            self.cells[self._section][-1].append("")
        self.texts[self._section] += "" if tag in INLINE else " "
        self._open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.texts[self._section] += "" if tag in INLINE else " "
        self._section = "" if tag == "section" else self._section

    def handle_data(self, data: str) -> None:
        self.texts[self._section] += data
        if {"td", "th"} & {*self._open}:
            self.cells[self._section][-1][-1] += data

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(autouse=True)
def _no_figures_and_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds, and have tests of their own."""
    for name in ("draw", "compared_tables"):
        monkeypatch.setattr(page, name, lambda *_: [])


def test_sections_have_anchors_and_nothing_comes_from_elsewhere(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "compared_tables", lambda results, *_: 3 * result_tables(results))
    content, later = (render(Results(sweep), made) for made in (MADE, MADE.replace(year=2027)))
    changed = [line for line, other in zip(content.splitlines(), later.splitlines(), strict=True) if line != other]
    assert len(changed) == 1
    assert "made <time>2026-05-04 03:02:01 UTC</time>" in changed[0]
    read = Document(content)
    identities = [attrs["id"] for _, attrs in read.elements if "id" in attrs]
    assert len(identities) == len(set(identities))
    names = ["summary", "leaderboard", "tables", "figures", "failures", "configuration", "environment", "problems"]
    assert [attrs["id"] for attrs in read.attributes("section")] == names
    assert [attrs["href"] for attrs in read.attributes("a")][: len(names)] == [f"#{name}" for name in names]
    links = {str(attrs[name]) for _, attrs in read.elements for name in ("href", "src") if name in attrs}
    assert all(link == "data:," or link.removeprefix("#") in identities for link in links)
    assert "Summary Leaderboard 3 Tables 4 Figures 0 Failures 0 Configuration" in read.text("")
    policy = next(str(attrs["content"]) for attrs in read.attributes("meta") if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):  # only its own may run
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_the_leaderboard_has_a_row_per_run_the_best_first(sweep: Path) -> None:
    read = Document.of(sweep)
    heading, *rows = read.cells["leaderboard"]
    assert heading == ["rank", "policy", "init", "valid PPL", "test PPL", "K", "best epoch", "time", "state", "id"]
    assert rows == [
        ["1", "adaptive delta=0.9", "0", "1.1000", "1.1200", "7", "2", "0 s", "finished", "abcdefabcdef"],
        ["2", "fixed K=5", "0", "1.2000", "1.2500", "5", "2", "0 s", "finished", "000000000001"],
        ["3", "fixed K=5", "1", "1.4000", "1.4500", "5", "3", "0 s", "finished", "1e5000000000"],
    ]
    numbers = [attrs.get("data-number") for attrs in read.attributes("td")][:10]
    assert numbers == ["1.0", None, "0.0", "1.1", "1.12", "7.0", "2.0", "0.5", "2.0", None]
    right = [attrs.get("class") == "number" for attrs in read.attributes("th")[:10]]
    assert right == [True, False, True, True, True, True, True, True, False, False]
    assert [attrs["data-state"] for attrs in read.attributes("tr") if "data-state" in attrs] == ["finished"] * 3
    assert "all adaptive delta=0.9 fixed K=5 State all finished Clear" in read.text("leaderboard")
    assert "mean (sd) over init" in read.text("tables")
    assert ["fixed K=5", "2", "1.300 (0.141)"] in [row[:3] for row in read.cells["tables"]]


def test_options_that_vary_are_columns_and_runs_without_a_value_come_last(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [float("nan")], "test_ppl": [1.0]}, lr=10.0, tied=True)
    write_run("b", {"valid_ppl": [2.0], "test_ppl": [float("inf")]}, lr=1.0, tied=False)
    write_status(write_run("c", None, lr=0.1), schema.RUNNING)
    read = Document.of(outputs)
    heading, *rows = read.cells["leaderboard"]
    assert heading[:6] == ["rank", "policy", "lr", "tied", "init", "valid PPL"]
    assert [[*row[:4], *row[5:7], *row[-2:]] for row in rows] == [
        ["1", "fixed K=5", "1", "False", "2.0000", "inf", "finished", "b"],
        ["", "fixed K=5", "10", "True", "", "", "finished", "a"],
        ["", "fixed K=5", "0.1", "-", "", "", "stale", "c"],
    ]
    numbers = [attrs.get("data-number") for attrs in read.attributes("td")][:7]
    assert numbers == ["1.0", None, "1.0", None, "0.0", "2.0", "Infinity"]  # true and false are sorted as texts


def test_runs_of_two_data_sets_are_ranked_apart(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [2.0]})
    write_run("b", {"valid_nll": [-5.0]}, dataset="book_order")
    write_run("c", {"valid_nll": [-4.0]}, dataset="book_order", init=1)
    read = Document.of(outputs)
    heading, *rows = read.cells["leaderboard"]
    assert heading[heading.index("metric") + 1] == "valid loss"
    assert [(row[0], row[-1]) for row in rows] == [("1", "b"), ("2", "c"), ("1", "a")]
    assert "Best valid NLL, book_order -5.0000" in read.text("summary")
    assert "Best valid PPL, copy_fixed 2.0000" in read.text("summary")
    assert "fixed K=5, init=0; epoch" in read.text("summary")  # the data set tells no two rivals apart


def test_the_summary_names_command_counts_time_and_best(outputs: Path, sweep: Path) -> None:
    runs = {name: outputs / "demo" / name for name in ("000000000001", "1e5000000000")}
    write_plan(outputs, "first", runs)
    text = Document.of(sweep).text("summary")
    assert "python launch.py -m lr=1,10" in text
    assert "on node0.cluster, ended; 2 runs: 2 finished Without a stored sweep: 1 of 3 runs." in text
    assert "Runs 3 3 finished Training 2 s" in text  # 1.5 s, rounded to even
    assert "Best valid PPL 1.1000 test 1.1200; adaptive delta=0.9, init=0; epoch 2, K 7; run abcdefabcdef" in text
    assert "the best of 3" in text


def test_failures_of_one_reason_stand_together(outputs: Path, write_run: WriteRun) -> None:
    runs = [write_status(write_run(name), schema.FAILED, error="ValueError: no") for name in ("a1", "b2")]
    runs.append(write_status(write_run("c3"), schema.RUNNING))  # nobody holds it: killed
    write_status(write_run("d4"), schema.FAILED, error="Killed", host=None)
    trace = "Traceback (most recent call last):\n  \x1b[31mFile\x1b[0m \x00<b>bold</b>\nValueError: no\n"
    (runs[0] / schema.TRACEBACK).write_text(trace)
    (runs[2] / schema.OUTPUT).write_text("the last line\n")
    read = Document.of(outputs)
    text = read.text("failures")
    assert "failed ValueError: no 2 runs: demo/a1, demo/b2 Traceback of demo/a1" in text
    assert f"{runs[0]}, epoch 2, on node1.cluster, attempt 1 Traceback (most recent call last): File <b>bold" in text
    assert "stale killed at epoch 2 1 run: demo/c3 Traceback: none, but the last output" in text
    assert "attempt 1 Its last output: the last line" in text
    assert "failed Killed 1 run: demo/d4 It stored no traceback and printed nothing." in text
    assert "0 of 4 runs finished; 4 went wrong. 3 of 4 runs failed (failures) 1 of 4 runs were killed" in read.text(
        "summary"
    )


def test_before_the_first_evaluation_the_sections_say_so(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", None, state=schema.INTERRUPTED)
    read = Document.of(outputs)
    assert read.text("tables") == "Tables No run has a finite validation yet."
    assert read.text("figures") == "Figures No run has been evaluated yet."
    assert read.text("failures") == "Failures No run failed."
    assert [row[-2:] for row in read.cells["leaderboard"]] == [["state", "id"], ["interrupted", "a"]]
    assert "0 of 1 run finished; the results below are of what has been evaluated." in read.text("summary")
    read = Document.of(write_run("b", {"valid_ppl": [1.5, 1.2, 1.3], "K": [5, 5, 5]}))
    assert read.text("summary").startswith("Summary The one run finished. Runs 1")
    assert read.text("configuration").startswith("Configuration No option differs: there is one run.")


@pytest.mark.parametrize(("text", "more"), [(EVIL, ""), ("\x1b[2J", "\u202e\ud800")], ids=["HTML", "control"])
def test_what_users_name_is_text_and_nothing_else(outputs: Path, write_run: WriteRun, text: str, more: str) -> None:
    """`more` is in the files that are not refused for it."""
    name = re.sub(r"[/\x1b]", "|", text)
    names = {"name": name, "dataset": text, "truncation": text, "model": text, "notes": text, text: "a"}
    run = write_run("a", {"valid_ppl": [1.5, 1.2]}, **names)
    write_run("b", {"valid_ppl": [1.5, 1.2]}, **{**names, text: text})
    broken = write_run("c", {"valid_ppl": [1.0]}, **names, init=1)
    write_status(broken, schema.FAILED, error=text + more, host=text + more)
    (broken / schema.TRACEBACK).write_text(text)
    _environment(run, commit=text + more, host=text + more, numpy=text + more)
    write_plan(outputs, "first", {text + more: run}, command=["launch.py", text + more], host=text + more)
    content = write_report(Results(outputs), outputs / "report.html").read_text(encoding="utf-8")
    assert not UNPRINTABLE.search(content)
    read = Document(content)
    assert [name for name, _ in read.elements if name in ("script", "img")] == ["script"]
    assert {name for _, attrs in read.elements for name in attrs if name.startswith("on")} == set()
    for section in ("summary", "leaderboard", "failures", "configuration", "environment"):
        assert printable(text + more * (section in ("summary", "environment"))) in read.texts[section], section


def test_options_by_whether_they_differ(outputs: Path, write_run: WriteRun) -> None:
    for index in range(14):
        write_run(f"{index:x}", init=index, lr=10.0 if index == 1 else 1.0)
    write_run("e", init=14, truncation__K=None, truncation__delta=0.9)
    read = Document.of(outputs)
    rows = [[" ".join(cell.split()) for cell in row] for row in read.cells["configuration"]]
    assert ["lr", "1 × 14 10 × 1"] in rows
    assert ["truncation.K", "5 × 14 not set × 1"] in rows
    (init,) = [values for name, values in rows if name == "init"]
    assert init.startswith("0 × 1 1 × 1 2 × 1 3 × 1")
    assert init.endswith("11 × 1 and 3 more values")
    assert "model.hidden" not in [row[0] for row in rows]
    assert "model.hidden 4" in read.text("configuration")


def test_costs_notes_and_tags_are_columns_if_any_run_has_them(outputs: Path, write_run: WriteRun) -> None:
    """And words to filter by; they make no settings."""
    cost = {"processor_seconds": [50.0, 90.0], "peak_memory_mb": [350.0, 360.4]}
    write_run("a", {"valid_ppl": [2.0, 1.5], **cost}, tags="night, long", notes=EVIL, epochs=2.0)
    write_run("b", {"valid_ppl": [2.0, 1.6]}, init=1, epochs=2.0)
    heading, first, second = Document.of(outputs).cells["leaderboard"]
    assert [*zip(heading[-6:], first[-6:], second[-6:], strict=True)] == [
        ("processor time", "2 min", ""),
        ("memory", "360", ""),
        ("state", "finished", "finished"),
        ("id", "a", "b"),
        ("tags", "night, long", ""),
        ("notes", EVIL, ""),
    ]
    assert heading[:3] == ["rank", "policy", "init"]


def test_environments_are_counted_and_their_differences_shown(sweep: Path, write_run: WriteRun) -> None:
    first, second, third = sorted((sweep / "demo").iterdir())
    _environment(first, commit="aaa", host="node2", numpy="2.0")
    _environment(second, {"host": "node1"}, commit="aaa", host="node2", numpy="2.0")  # two attempts
    _environment(third, commit="bbb", host="node1", numpy="2.1", dirty=True, diff="code-1.diff", gpus=["A", "B"])
    write_run("without")
    read = Document.of(sweep)
    code = "2 runs with Python 3.11.7, code at aaa 1 run with Python 3.11.7, code at bbb with uncommitted changes"
    code += " (code-1.diff in the runs' directories)"
    assert f"{code} 1 run stored no environment." in read.text("environment")
    assert "2 packages of the first numpy 2.0 torch 2.13.0" in read.text("environment")
    assert read.cells["environment"] == [
        ["package", "2 runs", "1 run"],
        ["numpy", "2.0", "2.1"],
        ["runs", "hosts", "system", "processor", "cores", "memory (GiB)", "gpus", "cuda"],
        ["2", "node1, node2", "Linux", "EPYC", "2", "23.5", "none", "none"],
        ["1", "node1", "Linux", "EPYC", "2", "23.5", "A, B", "none"],
    ]
    changed = "bbb with changes code-1.diff (1 run) (environment)"
    assert f"runs come from 2 versions of the code: aaa (2 runs), {changed} runs ran with" in read.text("summary")
    _environment(third, commit="aaa", host="node1", numpy="2.1")
    assert "different packages: numpy 2.0 (2 runs), 2.1 (1 run) (environment)" in Document.of(sweep).text("summary")


def test_what_cannot_be_read_is_reported(sweep: Path) -> None:
    first, second, third = sorted((sweep / "demo").iterdir())
    (first / schema.METRICS).write_bytes(b"no table")
    (second / schema.ENVIRONMENT).write_text('{"attempts": [{}]}')
    (third / schema.ENVIRONMENT).write_text("{")
    read = Document.of(sweep)
    assert f"{first / schema.METRICS}: " in read.text("problems")
    assert f"{second / schema.ENVIRONMENT}: lacks 'code'; environment unknown" in read.text("problems")
    assert f"{third / schema.ENVIRONMENT}: " in read.text("problems")
    assert "3 problems while reading: some files were left out (problems)" in read.text("summary")


def test_of_a_run_in_two_folders_the_longer_one_counts(outputs: Path, write_run: WriteRun) -> None:
    write_status(write_run("a", {"valid_ppl": [1.5, 1.2, 1.3]}, folder="first"), schema.FINISHED, epoch=3.0)
    status = {"epoch": 1.0, "train_seconds": 1.0, "heartbeat": 0.0}
    write_status(write_run("a", {"valid_ppl": [1.5]}, folder="second"), schema.FAILED, **status)
    read = Document.of(outputs)
    assert [row[-2:] for row in read.cells["leaderboard"][1:]] == [["finished", "a"]]
    assert "is also in" in read.text("problems")


def test_the_file_is_whole_or_not_there(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "report.html"
    assert write_report(Results(sweep), target) == target
    Document(content := target.read_text())
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match=r"report\.html cannot be written: No space left on device"):
        write_report(Results(sweep), target)
    assert {path: path.read_text() for path in target.parent.iterdir()} == {target: content}
    with pytest.raises(AnalysisError, match=f"^{tmp_path}: is a folder; give a file to write to$"):
        write_report(Results(sweep), tmp_path)


def test_figures_are_images_within_the_page(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure(figsize=(4, 2))
    figure.subplots().plot([0, 1])
    drawing = Drawing("curve_x", "A curve", 'It says "up" & <more>.', figure)
    monkeypatch.setattr(page, "draw", lambda _: iter([drawing]))
    read = Document.of(sweep)
    (image,) = read.attributes("img")
    assert image["alt"] == 'A curve. It says "up" & <more>.'
    kind, _, content = str(image["src"]).partition(",")
    assert kind == "data:image/png;base64"
    width, height = Image.open(io.BytesIO(base64.b64decode(content))).size
    assert (image["width"], image["height"]) == (str(width // 2), str(height // 2))
    assert width / height == pytest.approx(2, rel=0.2)
    assert read.text("figures") == 'Figures Click a figure for its full size. A curve It says "up" & <more>.'


def test_the_figures_say_which_runs_have_no_probes(sweep: Path, write_run: WriteRun) -> None:
    write_run("000000000002", {"valid_ppl": [1.5]}, init=2, probe="none")
    assert "Without probes (probe=none): 1 of 4 runs, of which no figure" in Document.of(sweep).text("figures")


def _environment(directory: Path, *machines: dict[str, object], **changed: Any) -> None:
    """Store the environment of an attempt, and of a further one on each of the `machines`, by what differs there."""
    known = {name: changed.pop(name) for name in ("commit", "dirty", "diff") if name in changed}
    code = {
        "repositories": [{"path": "/home/me", "dirty": False, **known}],
        "python": "3.11.7",
        "packages": {"numpy": changed.pop("numpy"), "torch": "2.13.0"},
    }
    machine = {"system": "Linux", "processor": "EPYC", "cores": 2, "memory_gib": 23.5, "gpus": [], "cuda": None}
    attempts = [{"code": code, "machine": {**machine, **changed, **other}} for other in ({}, *machines)]
    (directory / schema.ENVIRONMENT).write_text(json.dumps({"attempts": attempts}))
