"""Weights & Biases offline: what it would upload is read from its files."""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.following import connect
from analysis.following.runs import Evaluation, Run

wandb = pytest.importorskip("wandb", reason='needs the extra "wandb": make test-extras')
pytestmark = pytest.mark.extras
PPL = "evaluation/valid_ppl"
HEADER, BLOCK = 7, 32768  # bytes: W&B's files are logs as LevelDB has them


def run(*losses: float, state: str = "running", **changed: object) -> Run:
    found = tuple(Evaluation(10 * n, n / 2, {PPL: loss, "time/epoch": float(n)}) for n, loss in enumerate(losses))
    return replace(Run("0a1b", "demo", "K=2", {"lr": 0.5, "truncation.K": 2}, "", (), state, "", found), **changed)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def record(folder: Path, *runs: Run) -> list[int]:
    """Record states of a run one after the other, with a new process's knowledge at first."""
    tracker = connect("wandb", str(folder), Path())
    try:
        return [tracker.record(one) for one in runs]
    finally:
        tracker.close()
        wandb.teardown()  # waits until the files are written


def records(file: Path) -> list[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    stored, at, parts, found = file.read_bytes(), HEADER, b"", []
    while at + HEADER <= len(stored):
        if BLOCK - at % BLOCK < HEADER:  # filled up with zeros
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", stored, at)
        parts, at = parts + stored[at + HEADER : at + HEADER + length], at + HEADER + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def uploaded(folder: Path) -> list[tuple[str, dict[int, Any], dict[str, Any]]]:
    """Of each of W&B's files: the run's id, its perplexities by step, its name, config, summary, exit code."""
    found = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        points: dict[int, Any] = {}
        more: dict[str, Any] = {"config": {}, "summary": {}}
        for each in records(file):
            if each.HasField("run") and each.run.run_id:
                identity, more["name"], more["project"] = each.run.run_id, each.run.display_name, each.run.project
                more["notes"], more["tags"] = each.run.notes, [*each.run.tags]
                more["config"] |= {item.key: json.loads(item.value_json) for item in each.run.config.update}
            elif each.HasField("config"):
                more["config"] |= {item.key: json.loads(item.value_json) for item in each.config.update}
            elif each.HasField("history"):
                row = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in each.history.item}
                assert row["_step"] not in points
                points[row["_step"]] = float(row.get(PPL, "nan"))
            elif each.HasField("summary"):
                for item in each.summary.update:
                    more["summary"][item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
            elif each.HasField("exit"):
                more["exit"] = each.exit.exit_code
        found.append((identity, points, more))
    return found


def test_a_run_is_continued_under_its_id(tmp_path: Path) -> None:
    assert record(tmp_path, run(3.0, math.nan, notes="first"), run(3.0), run(3.0, math.nan, 1.5)) == [2, 0, 1]
    done = run(3.0, math.nan, 1.5, 1.0, state="finished", notes="why", tags=("a",))
    assert record(tmp_path, done) == [1]
    assert record(tmp_path, done) == [0]
    (identity, first, _), (again, second, more) = uploaded(tmp_path)
    assert (identity, again) == ("0a1b", "0a1b")
    assert str(first) == "{0: 3.0, 10: nan, 20: 1.5}"
    assert second == {30: 1.0}
    assert (more["name"], more["project"], more["notes"], more["tags"]) == ("K=2", "demo", "why", ["a"])
    assert (more["config"]["lr"], more["config"]["truncation.K"]) == (0.5, 2)
    assert (more["summary"]["state"], more["exit"]) == ("finished", 0)


def test_other_values_begin_another_run(tmp_path: Path) -> None:
    assert record(tmp_path, run(3.0, 2.0), run(3.0, 2.5), run(3.0, 2.5, state="diverged", why="no")) == [2, 2, 0]
    (first, old, _), (second, new, more) = uploaded(tmp_path)
    assert (first, second) == ("0a1b", "0a1b-2")
    assert (old, new) == ({0: 3.0, 10: 2.0}, {0: 3.0, 10: 2.5})
    assert (more["name"], more["exit"], more["summary"]["why"]) == ("K=2 (2)", 1, "no")
