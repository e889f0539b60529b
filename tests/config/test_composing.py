"""Command lines as Hydra reads them, and what is said of those that cannot be composed."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from atbptt.config.composing import Command, read_command, split_flags
from atbptt.config.hydra_options import check_plugin, launcher_options
from atbptt.config.settings import validated
from atbptt.errors import ConfigError
from tests.config.conftest import Opened, composed


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ("probe.estimator=max", ["max"]),
        ("probe={tau:20,estimator:max}", ["max"]),
        ("-m probe.estimator=max,ols", ["max", "ols"]),
        ("experiment=former", ["quantile"]),
        ("-m experiment=former probe.estimator=max,ols", ["max", "ols"]),
        ("-m --config-name=swept", ["max", "ols"]),
    ],
)
def test_an_option_is_set_by_its_former_name_too(opened: Opened, arguments: str, fits: list[str]) -> None:
    configs = composed(opened, "--config-dir=USERS/yaml", *arguments.split())
    assert [validated(config).probe.decay_fit for config in configs] == fits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lrr=1", r"^lrr is no option; did you mean lr\?; the options are lr, lr_scaling, "),
        ("probe.windo=9", r"^probe.windo is no option; did you mean window\?"),
        ("truncation.delta=0.5", r"^truncation.delta is no option; the options of truncation=fixed are K"),
        ("truncation=adaptve", r"^truncation \(=adaptve\) is no option; did you mean adaptive\?; .* adaptive, fixed"),
        ("truncatoin=fixed", r"^truncatoin is no option; did you mean truncation\?"),
        ("preveiw=true", r"^preveiw is no option; "),
        ("lr.deep=1", r"^lr.deep is no option$"),
        ("scheme.deep=1", r"^scheme.deep is no option of scheme=original-buffer, which has none$"),
        ("model=null", r"^model \(=null\) must be one of gru, lstm, point_process, rnn_relu, rnn_tanh$"),
        ("truncation=5", r"^truncation \(=5\) must be one of adaptive, fixed, full, progress, randomized, vari"),
        ("-m hydra.sweeper=null", r"^hydra/sweeper \(=None\) must be basic or optuna: "),
        ("-m hydra.sweeper._target_=mine.Sweeper", r"^hydra/sweeper \(=mine.Sweeper\) must be basic or optuna: "),
        ("-m lr=range(0)", r"^lr=range\(0\) names no value: there is nothing to run"),
        ("-m lr=interval(0,1)", r"^lr=interval\(0,1\) is a range to search: add hydra/sweeper=optuna$"),
        ("lr=${nosuch}", r"^lr cannot be resolved: Interpolation key 'nosuch' not found$"),
        ("lr=[1", r"^'lr=\[1' cannot be read"),
        ("nonsense", r"^'nonsense' cannot be read: options are given as key=value"),
        ("--nonsense", r"^command line: unrecognized arguments: --nonsense"),
        ("lr=1,2", r"^lr=1,2 names several values, a sweep: add -m"),
        ("--config-dir=/nowhere", r"^--config-dir \(=/nowhere\) is no folder"),
        ("--config-name=none", r"^--config-name \(=none\) is no option"),
        ("-m truncation.delta=1 lr=1,2", r"^truncation.delta is no option; the options of truncation=fixed are K$"),
        (
            "truncation=adaptive,full truncation.delta=1",
            r"^truncation=adaptive,full names several values, a sweep: add",
        ),
        *((f"preview={v}", rf"^preview \(={v}\) must be true or false$") for v in ("maybe", "", "true,false")),
        ("rerun=1", r"^rerun \(=1\) must be true or false$"),
        *(
            (f"{m}tags=a,b", r"^tags=a,b names several values, but .*; several tags are tags=\[a,b\]$")
            for m in ("", "-m ")
        ),
    ],
)
def test_what_cannot_be_composed_is_reported(opened: Opened, arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(opened, *arguments.split())


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        ("-m experiment=sweeping", ["truncation=fixed experiment=sweeping", "truncation=adaptive experiment=sweeping"]),
        ("-m experiment=sweeping truncation=full", ["truncation=full experiment=sweeping"]),
        ("experiment=sweeping truncation=full", ["experiment=sweeping truncation=full"]),
        ("experiment=sweeping hydra.mode=RUN", ["experiment=sweeping hydra.mode=RUN"]),
        ("experiment=searched", []),  # a search, whose jobs are not known yet
        ("experiment=searched init=3", []),
        ("experiment=searched lr=3", ["lr=3 init=1 experiment=searched", "lr=3 init=2 experiment=searched"]),
    ],
)
def test_what_a_file_sweeps_or_searches_is_replaced_by_what_is_typed(
    opened: Opened, arguments: str, jobs: list[str]
) -> None:
    _, _, batch = opened("--config-dir=USERS/yaml", *arguments.split())
    assert sorted(map(sorted, batch)) == sorted(sorted(job.split()) for job in jobs)


def test_a_command_is_taken_apart(root: Path, tmp_path: Path) -> None:
    flags = ["-m", f"--config-dir={tmp_path}", "--config-name=mine", "--config-path=docs"]
    command = read_command([*flags, "lr=1,2", "preview=true", "seed=3"], root / "conf")
    assert command == Command(["lr=1,2", "seed=3"], True, "mine", root / "docs", tmp_path, True, False, "docs")
    assert read_command([], root / "conf") == Command([], False, "config", root / "conf", None, False)
    for flag in ("--help", "--cfg=job", "--info=config", "--hydra-help"):  # only show something
        assert read_command([flag, "lr=1"], root / "conf") is None


@pytest.mark.parametrize(
    ("arguments", "preview", "rerun"),
    [
        ("-m lr=1,2", False, False),
        ("preview=true -m lr=1,2", True, False),
        ("-m preview=True lr=1,2 rerun=true", True, True),
        ("-m lr=1,2 preview=false", False, False),
        ("preview=false -m rerun=true lr=1,2 preview=true rerun=false", True, False),
    ],
)
def test_flags_are_set_anywhere_and_hidden_from_hydra(arguments: str, preview: bool, rerun: bool) -> None:
    assert split_flags(arguments.split()) == (["-m", "lr=1,2"], {"preview": preview, "rerun": rerun})


@pytest.mark.parametrize(
    ("typed", "notes"),
    [
        *(
            (text, text)
            for text in ("first, try", "it's", "ends in \\", r"\'", "two\nlines", "lr (x) = {1}: [#", "2024")
        ),
        ("'first, try'", "first, try"),
        ("null", None),
        ("", ""),
    ],
)
def test_notes_are_what_is_typed(opened: Opened, typed: str, notes: str | None) -> None:
    """The shell takes the quotes, and Hydra would read a list or nothing."""
    (config,) = composed(opened, f"notes={typed}")
    assert validated(config).notes == notes


def test_notes_among_what_is_swept_are_one_text(opened: Opened) -> None:
    configs = composed(opened, "-m", "--config-dir=USERS/yaml", "experiment=noted")
    assert [(config["notes"], config["lr"]) for config in configs] == [("first, try", 1), ("first, try", 2)]


def test_a_launcher_without_a_class_is_left_to_the_check_of_its_options() -> None:
    options = {"n_jobs": 2}
    assert launcher_options(OmegaConf.create({"hydra": {"launcher": options}})) == options
    with pytest.raises(ConfigError, match=r"^hydra.launcher \(=.*\) must have a _target_ that names a class$"):
        check_plugin("hydra.launcher", options)
