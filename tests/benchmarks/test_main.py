import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.report import Row
from benchmarks.sweep import SkippedError
from benchmarks.timing import Measured


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the results of made-up parts."""
    row = Row("made up", "H1", Measured((1.0,)), "a call", floor_seconds=0.5)
    parts = {"one": Mock(return_value=[row]), "other": Mock(side_effect=SkippedError("too few cores"))}
    monkeypatch.setattr(command, "PARTS", parts)
    monkeypatch.setattr(command, "matrix_speed", lambda _: 2.0)
    monkeypatch.setattr(command, "configure_torch", lambda **_: None)
    monkeypatch.setattr(command, "OUTPUT", tmp_path / "results")
    return tmp_path / "results"


def test_the_chosen_parts_run_and_a_skipped_one_is_noted(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["one"]) == 0
    command.PARTS["one"].assert_called_once_with(torch.device("cpu"), 2.0)  # type: ignore[attr-defined]
    assert "too few cores" not in (results / "results.json").read_text()
    assert command.main([]) == 0
    stored = json.loads((results / "results.json").read_text())
    assert [(row["what"], row["over_floor"]) for row in stored["rows"]] == [("made up", 2.0)]
    assert stored["notes"][0] == "other left out: too few cores"
    assert {"CPU", "device", "matrix speed", "commit"} <= set(stored["machine"])
    assert "made up, H1: 1 s a call" in capsys.readouterr().out


def test_a_wrong_argument_is_reported(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["on"]) == 1
    assert capsys.readouterr().err == "error: part (=on) must be one of one, other; did you mean one?\n"
    assert command.main(["one", "--device", "tpu"]) == 1
    assert capsys.readouterr().err == "error: --device (=tpu) must be one of cpu, cuda; did you mean cpu?\n"
    assert not results.exists()
