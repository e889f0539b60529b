from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

import analysis
from analysis.__main__ import main
from analysis.loading import Results
from atbptt.runs import schema
from tests.helpers.made import write_plan, write_status

WriteRun = Callable[..., Path]


def test_figures_are_written_below_the_path_and_are_no_run(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", str(sweep)]) == 0
    names = ("convergence", "clocks")
    files = [sweep / "figures" / f"{name}_copy_fixed.{kind}" for name in names for kind in ("png", "pdf")]
    assert capsys.readouterr().out.splitlines() == [str(file) for file in files]
    assert all(file.stat().st_size > 0 for file in files)
    assert main(["table", str(sweep)]) == 0
    out, err = capsys.readouterr()
    assert "adaptive delta=0.9" in out
    assert out.endswith("<experiment_id>/*.parquet\n")
    assert err == ""


def test_what_is_written_elsewhere(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(results: Results, out: Path) -> list[Path]:
        assert len(results.options) == 2
        return [out / "a", out / "b"]

    broken = sweep / "demo" / "000000000001" / schema.OPTIONS
    broken.write_bytes(b"")
    monkeypatch.setattr("analysis.figures.save_figures", write)
    monkeypatch.setattr("analysis.exporting.export", write)
    monkeypatch.setattr("analysis.report.page.write_report", lambda results, out: write(results, out)[0])
    for command, default in (("figures", "figures"), ("export", "export"), ("report", "report.html")):
        for options, out in (([], sweep / default), (["--out", str(tmp_path)], tmp_path)):
            assert main([command, str(sweep), *options]) == 0
            printed = capsys.readouterr()
            assert printed.out.splitlines() == [
                str(path) for path in (out / "a", out / "b")[: 1 + (command != "report")]
            ]
            assert printed.err.startswith(f"warning: {broken}: ")
            assert len(printed.err.splitlines()) == 1  # once, although several parts are read


def test_skipped_files_are_one_line_each_on_stderr(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"000000000001": schema.OPTIONS, "1e5000000000": schema.METRICS, "abcdefabcdef": schema.STATUS}
    broken = [sweep / "demo" / run / file for run, file in files.items()]
    for path in broken:
        path.write_bytes(b"")
    assert main(["table", str(sweep)]) == 0
    out, err = capsys.readouterr()
    *lines, last = err.splitlines()
    # Each once, although metrics and states are read one after the other.
    assert [line.split(": ")[:2] for line in lines] == [["warning", str(path)] for path in broken]
    assert last == "3 warnings"
    assert "1 of 2 runs left out, no evaluation: 1e5000000000" in out


@pytest.mark.parametrize("command", ["table", "figures"])
def test_bad_input_is_one_line_and_exit_code_1(
    command: str, outputs: Path, tmp_path: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(*arguments: str) -> str:
        assert main([command, *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        return line

    assert message(str(tmp_path / "no")) == f"error: {tmp_path}/no: does not exist"
    assert message(str(tmp_path)).startswith(f"error: {tmp_path}: no runs")
    write_run("a", None, state=schema.FAILED)
    assert message(str(outputs)) == f"error: {outputs}: no evaluation yet (runs: 1, failed: 1)"
    write_run("b", {"train_loss": [1.0]})
    assert message(str(outputs)) == "error: no validation metric (valid_...) is logged yet"


def test_unknown_metric(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "--metric", "ppl", str(sweep)]) == 1
    assert capsys.readouterr().err == "error: metric (=ppl) must be one of valid_ppl; did you mean valid_ppl?\n"


def test_status(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"lr=1": write_status(outputs / "demo" / "a1", schema.RUNNING), "lr=10": outputs / "demo" / "b2"}
    write_plan(outputs, "first", runs)
    assert main(["status", str(outputs)]) == 0
    out, err = capsys.readouterr()
    assert "0 of 2 finished, 1 waiting, 1 stale" in out
    assert "lr=10" not in out
    assert err == ""
    assert main(["status", "--all", str(outputs)]) == 0
    assert "lr=10" in capsys.readouterr().out
    assert main(["status", "--watch", str(outputs)]) == 0  # nothing to wait for
    assert capsys.readouterr().out.startswith("--- ")


def test_failures(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_status(outputs / "demo" / "a1", schema.FINISHED)
    assert main(["failures", str(outputs)]) == 0
    assert capsys.readouterr().out == "no failures (runs: 1)\n"
    write_status(run, schema.FAILED, error="ValueError: no")
    assert main(["failures", str(outputs)]) == 0
    assert capsys.readouterr().out.startswith("failed  demo/a1\n")


@pytest.mark.parametrize("command", ["status", "failures"])
def test_nothing_to_look_at_is_one_line_and_exit_code_1(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for path, rule in {
        tmp_path / "no": "does not exist",
        tmp_path / "file": "is a file; give a run directory or a folder of them",
        tmp_path: "no runs here or below, and no sweep that plans any",
    }.items():
        assert main([command, str(path)]) == 1
        assert capsys.readouterr() == ("", f"error: {path}: {rule}\n")


def test_compact_prints_what_it_wrote(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compact", str(sweep), "--to", "paper"]) == 0
    printed = "".join(f"paper/{name}\n" for name in ("options.parquet", "metrics.parquet", "status.parquet"))
    assert capsys.readouterr() == (printed, "")
    assert len(analysis.load_options("paper")) == 3


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    for words in (r"table +Print validation", r"report +Write one", r"status +Show what", r"probe +Measure how"):
        assert re.search(words, out), words
    with pytest.raises(SystemExit, match="2"):
        main(["table"])
    assert capsys.readouterr().err.endswith("error: the following arguments are required: PATH\n")


def test_ctrl_c_ends_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("atbptt.monitor.failures.print_failures", Mock(side_effect=KeyboardInterrupt))
    assert main(["failures", "."]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_command_loads_what_it_needs(sweep: Path) -> None:
    code = f"""
import sys, analysis
from analysis.__main__ import main
for command in ("status", "failures", "table"):
    main([command, {str(sweep)!r}])
    print("loaded", *{{"torch", "pandas", "matplotlib", "seaborn"}} & {{*sys.modules}})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [line for line in result.stdout.splitlines() if line.startswith("loaded")]
    assert loaded == ["loaded", "loaded", "loaded pandas"]


def test_the_package_has_the_names_it_lists() -> None:
    assert "load" in analysis.__all__
    assert all(getattr(analysis, name) is not None for name in analysis.__all__)
    assert dir(analysis) == analysis.__all__
    with pytest.raises(AttributeError, match="module 'analysis' has no attribute 'lode'"):
        analysis.lode  # noqa: B018
