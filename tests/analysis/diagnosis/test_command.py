import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analysis.__main__ import main
from atbptt.config import composer, job_config, validated
from atbptt.runs import schema
from atbptt.training import StoredModel, open_stored_model
from atbptt.training.experiment import build, run
from tests.conftest import ROOT, TINY_RUN


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_prints_and_draws_and_leaves_the_run_alone(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert main(["probe", str(directory)]) == 0
    out = capsys.readouterr().out
    K = open_stored_model(directory).K
    for text in (
        f"run         {directory.name} (finished)",
        "task        copy_fixed",
        "policy      adaptive (delta=0.9, estimator=bound,",
        f"at          epoch 2, step 120, K = {K}, scheme original-buffer",
        "probed      train streams: W = 12 steps (tau = 8) after 4 of burn-in; 2 loss",
        "delta  K by the bound  90 % interval  K as measured  90 % interval",
        f"Relative bias at the present K = {K}: bound ",
        "Under scheme=original-buffer this network needs a K of ",
        f"Its present K = {K} is ",
        f"figure: probe_{directory.name}.png",
    ):
        assert text in out, text
    assert max(map(len, out.splitlines())) <= 80
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    (figure,) = tmp_path.iterdir()
    assert figure.name == f"probe_{directory.name}.png"
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_same_command_draws_the_same_figure(directory: Path, tmp_path: Path) -> None:
    for name in ("0.pdf", "1.pdf"):
        assert main(["probe", str(directory / schema.CHECKPOINT), "--figure", name]) == 0
    first, again = (path.read_bytes() for path in tmp_path.iterdir())
    assert first == again
    assert first.startswith(b"%PDF")


def test_each_option_does_what_it_says(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*options: str) -> tuple[str, str]:
        assert main(["probe", str(directory), "--no-figure", *options]) == 0
        out, err = capsys.readouterr()
        return " ".join(out.split()), err

    default, _ = printed()
    assert "train streams: W = 12 steps (tau = 8) after 4 of burn-in; 2 loss positions, 4 streams, 1 probe " in default
    every = ("--split=valid", "--window=20", "--burn-in=5", "--positions=1", "--probes=2", "--resamples=0")
    changed, _ = printed(*every, "--delta=0.3,2,2", "--seed=1")
    assert "valid streams: W = 20 steps (tau = 15) after 5 of burn-in; 1 loss position, 4 streams, 2 probes" in changed
    table = changed.partition("90 % interval K as measured 90 % interval ")[2].split()
    assert (table[0], table[3]) == ("2", "0.3")  # no intervals between
    assert "(tau = 9)" in printed("--tau=9")[0]
    assert printed("--seed=1")[0] != default == printed("--seed=0")[0]
    out, err = printed("--delta=1e-7", "--window=32")
    assert err.startswith("warning: K for delta 1e-07 lies in the far half of the window (W = 32)")
    assert "--window" not in err  # the stream has no more
    assert "at least" in out
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_probes_is_probed_by_the_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with composer(ROOT / "conf") as hydra:
        options = ["probe=none", *TINY_RUN, f"output_dir={tmp_path}"]
        directory = run(validated(job_config(hydra, "config", options))).path
    assert main(["probe", str(directory), "--no-figure"]) == 0
    assert "W = 40 steps (tau = 30) after 20 of burn-in; 4 loss positions" in " ".join(capsys.readouterr().out.split())
    assert main(["probe", str(directory), "--no-figure", "--window=12", "--burn-in=4"]) == 0
    assert "W = 12 steps (tau = 9) after 4 of burn-in; 3 loss positions" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window=80"], "burn_in + window (=84) must not exceed the train stream's 60 steps"),
        (["--split=dev"], "split (=dev) must be one of train, valid, test"),
        (["--tau=12"], "tau (=12) must be smaller than the probe's window (=12)"),
        (["--positions=5"], "positions (=5) must not exceed window - tau (=4)"),
        (["--window=x"], "argument --window: invalid int value: 'x'; see python -m analysis probe --help"),
        (["--delta=0.5,0"], "argument --delta: (=0.5,0) must be numbers greater than 0, with commas between them"),
        (["--delta=,"], "argument --delta: (=,) must be numbers greater than 0, with commas between them"),
        (["--figure=a.jpg"], "--figure (=a.jpg) must be a file .png or .pdf"),
        (["--figure=a/b.png", "--no-figure"], "argument --no-figure: not allowed with argument --figure"),
        (["--figure=/dev/null/b.png"], "figure (=/dev/null) cannot be written: /dev/null is no folder"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_1(
    directory: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["probe", str(directory), *options]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {message}")
    assert (captured.err.count("\n"), captured.out) == (1, "")


def test_a_model_that_runs_step_by_step_has_no_interval_as_measured(
    trained: StoredModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], directory: Path
) -> None:
    def of_own_cells(self: torch.nn.Module, inputs: torch.Tensor, state: object) -> object:
        outputs, after = type(trained.model).recur(self, inputs, state)  # type: ignore[attr-defined]
        return outputs * 1.0, tuple(part * 1.0 for part in after)

    def with_own_cells(settings: object) -> object:
        parts = build(settings)  # type: ignore[arg-type]
        parts.model.__class__ = type("Own", (type(parts.model),), {"recur": of_own_cells})
        return parts

    monkeypatch.setattr("atbptt.training.stored_model.build", with_own_cells)
    assert main(["probe", str(directory), "--no-figure"]) == 0
    assert "warning: no interval as measured: " in capsys.readouterr().err


def test_the_command(directory: Path, tmp_path: Path) -> None:
    """As typed, in an environment without the packages of experiments, and by the name of earlier versions."""

    def typed(module: str, *arguments: str, path: str = str(ROOT)) -> tuple[int, str, str]:
        command, environment = (
            [sys.executable, "-W", "error", "-m", module, *arguments],
            os.environ | {"PYTHONPATH": path},
        )
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        return done.returncode, done.stdout, done.stderr

    code, out, err = typed("analysis", "probe", str(directory), "--no-figure")
    assert code == 0, err
    assert "this network needs a K of " in " ".join(out.split())
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pydantic'] = None\n")
    code, out, err = typed("analysis", "probe", str(directory), path=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (code, out) == (1, "")
    assert err.startswith("error: python -m analysis needs the packages of experiments: pip install ")
    now = "error: this command is now: python -m analysis probe 'some run' --probes 8\n"
    assert typed("atbptt.probe", "some run", "--probes", "8") == (1, "", now)
