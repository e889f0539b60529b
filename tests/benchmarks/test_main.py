from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.report import Row
from benchmarks.sweep import SkippedError
from benchmarks.timing import Measured


def one_row(device: torch.device, speed: float) -> Iterator[Row]:
    assert device == torch.device("cpu")
    yield Row("made up", "H1", Measured((1.0,)), "a call", floor_seconds=1 / speed)


def left_out(device: torch.device, speed: float) -> Iterator[Row]:  # noqa: ARG001
    raise SkippedError("too few cores")
    yield


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Made-up parts, and a folder to store their results in."""
    monkeypatch.setattr(command, "PARTS", {"one": one_row, "other": left_out})
    monkeypatch.setattr(command, "matrix_speed", lambda _: 2.0)
    monkeypatch.setattr(command, "configure_torch", lambda **_: None)
    monkeypatch.setattr(command, "OUTPUT", tmp_path / "results")
    return tmp_path / "results"


def test_the_chosen_parts_run_and_a_skipped_one_is_noted(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["one"]) == 0
    assert "too few cores" not in (parts / "results.json").read_text()
    assert command.main([]) == 0
    stored = json.loads((parts / "results.json").read_text())
    assert [(row["what"], row["over_floor"]) for row in stored["rows"]] == [("made up", 2.0)]
    assert stored["notes"][0] == "other left out: too few cores"
    assert {"CPU", "device", "matrix speed", "commit"} <= set(stored["machine"])
    assert "made up, H1: 1 s a call" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["on"], "part (=on) must be one of one, other; did you mean one?"),
        (["one", "--device", "tpu"], "--device (=tpu) must be one of cpu, cuda; did you mean cpu?"),
    ],
)
def test_a_wrong_argument_is_reported(
    parts: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command.main(arguments) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not parts.exists()
