import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

import analysis
from analysis.__main__ import main
from analysis.loading import Results
from atbptt.runs import schema
from tests.analysis.conftest import WriteRun
from tests.helpers.made import write_plan, write_status


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


def test_figures_of_runs_without_probes_say_so(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("analysis.figures.save_figures", lambda _, out: [out / "a"])
    folder = write_run("000000000001", {"valid_ppl": [1.5]}, probe="none").parent
    assert main(["figures", str(folder)]) == 0
    assert capsys.readouterr().err.startswith("without probes (probe=none): all runs, ")


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
    monkeypatch.setattr("analysis.report.page.write_report", lambda results, out, _: write(results, out)[0])
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
    assert "1 of 2 runs have no evaluation: 1e5000000000" in out


@pytest.mark.parametrize("command", ["table", "figures", "status", "failures"])
def test_bad_input_is_one_line_and_exit_code_1(
    command: str, outputs: Path, tmp_path: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(path: Path, *options: str) -> str:
        assert main([command, str(path), *options]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    (tmp_path / "file").touch()
    planned = command in ("status", "failures")
    nothing = "no run directories" if planned else "no runs"
    assert message(tmp_path / "no") == f"error: {tmp_path}/no: does not exist\n"
    assert message(tmp_path / "file").startswith(f"error: {tmp_path}/file: is a file; give a run directory or a folder")
    assert message(tmp_path).startswith(f"error: {tmp_path}: {nothing} here or below")
    if planned:
        return
    write_run("a", None, state=schema.FAILED)
    assert message(outputs) == f"error: {outputs}: no evaluation yet (runs: 1, failed: 1)\n"
    write_run("b", {"train_loss": [1.0]})
    assert message(outputs) == "error: no validation metric (valid_...) is logged yet\n"
    if command == "table":
        write_run("c", {"valid_ppl": [1.0]})
        unknown = "error: metric (=ppl) must be one of valid_ppl; did you mean valid_ppl?\n"
        assert message(outputs, "--metric", "ppl") == unknown


def test_runs_are_chosen_by_options_tags_and_words_of_their_notes(
    outputs: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in several commands; of what the report says, the runs that it leaves out are no part."""
    noted = {"tags": "night, long", "notes": "First try, with clipping"}
    write_run("a", {"valid_ppl": [1.0]}, **noted)
    write_run("b", {"valid_ppl": [2.0]}, lr=10.0, tags="nightly")
    write_run("c", {"valid_ppl": [3.0]}, lr=100.0)
    waiting = write_status(outputs / "demo" / "d", schema.RUNNING)  # without options yet
    cases = {
        "tags=night": "a", "tags=Long,day": "a", "tags=null": "c", "tags=nightly,night": "ab",
        "notes=first try, w": "a", "notes=null": "bc", "lr=1,1e2": "ac", "lr=10 tags=nightly": "b",
    }  # fmt: skip
    for conditions, expected in cases.items():
        where = [part for each in re.split(r" (?=\w+=)", conditions) for part in ("--where", each)]
        assert main(["export", str(outputs), *where]) == 0
        rows = (outputs / "export" / "options.csv").read_text().splitlines()[1:]
        assert "".join(row[0] for row in rows) == expected
    assert main(["report", str(outputs), "--where", "tags=night"]) == 0
    page = (outputs / "report.html").read_text()
    assert "The one run finished" in page
    shutil.rmtree(waiting)
    capsys.readouterr()
    for condition, message in {
        "tags=day": f"{outputs}: no run has the options asked for",
        "tag": "--where (=tag) must be OPTION=VALUE, as lr=1,10 or tags=night",
        "lrr=1": "where (=lrr) must be one of experiment_id, ",
    }.items():
        assert main(["table", str(outputs), "--where", condition]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err.startswith(f"error: {message}")) == ("", 1, True)


def test_status(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*options: str) -> str:
        assert main(["status", str(outputs), *options]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    runs = {"lr=1": write_status(outputs / "demo" / "a1", schema.RUNNING), "lr=10": outputs / "demo" / "b2"}
    write_plan(outputs, "first", runs)
    assert "0 of 2 finished, 1 waiting, 1 stale" in printed()
    assert ("lr=10" in printed(), "lr=10" in printed("--all")) == (False, True)
    assert printed("--watch").startswith("--- ")  # nothing to wait for


def test_failures(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_status(outputs / "demo" / "a1", schema.FINISHED)
    assert main(["failures", str(outputs)]) == 0
    assert capsys.readouterr() == ("no failures (runs: 1)\n", "")
    write_status(run, schema.FAILED, error="ValueError: no")
    assert main(["failures", str(outputs)]) == 0
    assert capsys.readouterr().out.startswith("failed  demo/a1\n")


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
