from pathlib import Path

import pytest

from atbptt.errors import AnalysisError, ConfigError
from atbptt.training.trust import Trust
from tests.helpers.projects import Project

CONFIG = Path("run/config.yaml")

EVIL = """
import os
from torch import nn

open("ran", "w")

class Mine(nn.Module):
    pass

def make():
    pass
"""


@pytest.mark.parametrize(
    "target",
    [
        "atbptt.models.RecurrentNetwork",
        "atbptt.datasets.Copy",
        "atbptt.truncation:Fixed",
        "atbptt.windows.PlateauDecay",
        "torch.optim.SGD",
    ],
)
def test_classes_of_atbptt_and_optimizers_are_trusted(target: str) -> None:
    Trust().check({"model": {"_target_": target}}, CONFIG)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.exec",
        "subprocess:Popen",
        "torch.load",
        "torch.hub.load",
        "torch.optim.lr_scheduler.StepLR",
        "torch.optim.Adam.__init__.__globals__",
        "atbptt.system.move_folder",  # is of atbptt, but no class
        "atbptt.runs.RunDirectory",
        "atbptt.runs.provenance.subprocess.Popen",
        "atbptt.models.recurrent.torch.load",
        "atbptt.datasets.fetching.requests.get",
        "atbptt.datasets.text.Path",
        "atbptt.models.nothing",
        "atbptt.models",
        "evil.Mine",
        "",
        "None",
    ],
)
def test_others_are_not_and_are_not_imported(target: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(evil=EVIL)
    monkeypatch.chdir(project.folder)
    message = (
        rf"^run/config\.yaml: dataset\.parts\.0\._target_ \(={target}\) is no class of atbptt, .* --trust allows all$"
    )
    with pytest.raises(AnalysisError, match=message):
        Trust().check({"name": "a", "dataset": {"parts": [{"_target_": target}]}}, CONFIG)
    assert not (project.folder / "ran").exists()
    Trust(all=True).check({"dataset": {"_target_": target}}, CONFIG)


@pytest.mark.parametrize(("target", "trusted"), [("evil.Mine", True), ("evil:make", True), ("evil.os.system", False)])
def test_of_a_module_that_is_named_what_it_defines(
    target: str, trusted: bool, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(evil=EVIL, evil_twin=EVIL)
    monkeypatch.chdir(project.folder)
    trust = Trust(modules=("evil",))
    if trusted:
        trust.check({"model": {"_target_": target}}, CONFIG)
        with pytest.raises(AnalysisError, match="add --module evil_twin"):
            trust.check({"model": {"_target_": "evil_twin.Mine"}}, CONFIG)
    else:
        with pytest.raises(AnalysisError, match="is no class of atbptt"):
            trust.check({"model": {"_target_": target}}, CONFIG)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys\nsys.exit(0)\n", r"SystemExit: 0 \(line 2 of .*evil\.py\)"),
        ("class Stop(BaseException): pass\nraise Stop('no')\n", r"Stop: no \(line 2 of .*evil\.py\)"),
        ("", "AttributeError: module 'evil' has no attribute 'Mine'"),
        (None, "ModuleNotFoundError: No module named 'evil'"),
    ],
)
def test_a_module_that_is_named_and_cannot_be_imported_is_reported(
    code: str | None, why: str, project: Project
) -> None:
    if code is not None:
        project.write(evil=code)
    with pytest.raises(
        ConfigError, match=rf"^run/config\.yaml: model\._target_ \(=evil\.Mine\) cannot be imported: {why}$"
    ):
        Trust(modules=("evil",)).check({"model": {"_target_": "evil.Mine"}}, CONFIG)
