"""Command lines that show something and run nothing."""

import sys
from pathlib import Path

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

from atbptt import __version__
from atbptt.errors import ConfigError
from atbptt.sweeps.showing import shown
from atbptt.system import program


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--cfg job lr=1,2", r"^lr=1,2 names several values, a sweep: add -m"),
        ("--cfg job lrr=1", r"^lrr is no option; did you mean lr\?"),
        ("--info config lrr=1", r"^lrr is no option; did you mean lr\?"),
        ("--cfg job --config-dir=/nowhere", r"^--config-dir \(=/nowhere\) is no folder$"),
        ("--resolve lr=1", r"^--resolve needs --cfg job, hydra or all$"),
        ("-p model", r"^--package needs --cfg job, hydra or all$"),
        ("-m --info", r"^--multirun and --info exclude each other$"),
        ("--run -m", r"^--run and --multirun exclude each other$"),
        ("-sc", r"^--shell-completion needs install=SHELL or uninstall=SHELL, with bash, fish or zsh$"),
        ("--cfg=job --package=nosuch", r"^--package \(=nosuch\) is no part of the config$"),
        ("-sc install=tcsh", r"^--shell-completion needs install=SHELL"),
        (
            "--experimental-rerun=x",
            r"^--experimental-rerun is not supported: the same command again continues its runs",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(root: Path, arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shown(arguments.split(), root / "conf", lambda: None)


def test_the_version_is_of_this_project(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(["--version"], root / "conf", lambda: None) == 0
    assert capsys.readouterr().out == f"atbptt {__version__}\n"


def test_a_config_is_shown_as_hydra_shows_it(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show = hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name="config")(lambda _: None)
    for arguments in ("--cfg=job lr=3", "--cfg=all model=gru -p model --resolve", "--cfg=hydra"):
        assert shown(arguments.split(), root / "conf", lambda: None) == 0
        ours = capsys.readouterr().out
        monkeypatch.setattr(sys, "argv", ["launch.py", *arguments.split()])
        show()
        assert ours == capsys.readouterr().out.replace("name: test_showing", "name: launch")  # of the job


def test_of_a_sweep_each_config_is_shown_with_what_tells_it_from_the_others(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["-m", "--cfg=job", "truncation=fixed,adaptive", "truncation.K=3,4", "lr=2"]  # K counts for fixed only
    assert shown(given, root / "conf", lambda: None) == 0
    printed = capsys.readouterr().out
    labels = ["truncation=fixed truncation.K=3", "truncation=fixed truncation.K=4", "truncation=adaptive"]
    assert [line for line in printed.splitlines() if line.startswith("#")] == [f"# {label}" for label in labels]
    configs = list(yaml.safe_load_all(printed))
    assert [config["truncation"].get("K") for config in configs] == [3, 4, None]
    assert {config["lr"] for config in configs} == {2}


def test_of_a_search_the_ends_of_its_ranges_are_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["-m", "--cfg=job", "--package=model", "hydra/sweeper=optuna", "model.hidden=int(interval(2,9))"]
    assert shown(given, root / "conf", lambda: None) == 0
    assert [document["hidden"] for document in yaml.safe_load_all(capsys.readouterr().out)] == [2, 9]


@pytest.mark.parametrize(
    ("line", "code", "printed"),
    [("model=ls", 0, "model=lstm\n"), ("'lr ", 1, ""), ("lr=[ ", 1, ""), ("--nosuch lr", 1, "")],
)
def test_a_shell_is_told_what_completes_a_line_or_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, code: int, printed: str
) -> None:
    show = hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name="config")(lambda _: None)
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    monkeypatch.setenv("COMP_LINE", f"python launch.py {line}")
    assert shown(["-sc", "query=bash"], root / "conf", show) == code
    assert capsys.readouterr() == (printed, "")


@pytest.mark.parametrize("arguments", ["--info=config", "--info=defaults", "--help"])
def test_what_hydra_prints_has_no_control_characters(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str
) -> None:
    show = hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name="config")(lambda _: None)
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    OmegaConf.register_new_resolver("program", program, replace=True)  # as `atbptt.launch` does
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mi\x1bne.yaml").write_text('a: "b"\n')
    assert shown([arguments, f"--config-dir={tmp_path}", "model='mi\x1bne'"], root / "conf", show) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "mi\\x1bne" in out
    assert len(out) > 300
