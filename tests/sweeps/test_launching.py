from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from atbptt.config.composing import Command, read_command
from atbptt.config.settings import Settings
from atbptt.runs.directory import RunDirectory
from atbptt.runs.sweep import Job
from atbptt.sweeps.command import prepare
from atbptt.sweeps.launching import launch, prepared_launcher
from atbptt.sweeps.parallel import JoblibLauncher
from atbptt.sweeps.planning import Plan
from atbptt.sweeps.process import Outcome


@pytest.mark.parametrize("name", ["joblib", "basic", "slurm"])
def test_the_chosen_launcher_is_made_with_its_options_and_the_sweeps_folder(root: Path, name: str) -> None:
    folder = Path("/tmp/it's a \\ folder=,1")
    options = ["hydra.launcher.n_jobs=3"] if name == "joblib" else []
    command = read_command(["-m", f"hydra/launcher={name}", *options, "lr=3"], root / "conf")
    assert command is not None
    with prepared_launcher(command, [], folder) as (launcher, text):
        assert type(launcher).__name__ == f"{name.title()}Launcher"
        assert not isinstance(launcher, JoblibLauncher) or launcher.joblib["n_jobs"] == 3
    config = OmegaConf.create(text)
    assert config.hydra.sweep.dir == str(folder)
    assert config.lr == 3


def test_jobs_get_their_overrides_without_hydras_own(settings: Callable[..., Settings]) -> None:
    """Which are the sweep's, and would be given twice."""
    launcher, made = Mock(outcomes={}), settings()
    overrides = ["lr=1", "hydra/launcher=basic", "+hydra.job.x=1", "hydra.launcher.n_jobs=2", "model.hidden=6"]
    launch(launcher, [Job("lr=1", overrides, made, RunDirectory(made))])
    launcher.launch.assert_called_once_with([["lr=1", "model.hidden=6"]], initial_job_idx=0)


@pytest.mark.parametrize(
    ("returned", "outcomes"),
    [
        (
            [
                JobReturn(status=JobStatus.COMPLETED, _return_value=Outcome("interrupted", "SIGTERM")),
                JobReturn(status=JobStatus.FAILED, _return_value=ChildProcessError("no process")),
            ],
            {0: ("interrupted", "SIGTERM"), 1: ("failed", "ChildProcessError: no process")},
        ),
        (None, {}),  # of a user's launcher
        ([None], {}),
    ],
)
def test_how_jobs_ended_is_known_from_what_hydras_launchers_return(
    returned: object, outcomes: dict[int, tuple[str, str]]
) -> None:
    assert launch(Mock(spec=["launch"], launch=Mock(return_value=returned)), []) == outcomes


def test_modules_are_listed_once(
    root: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setattr("atbptt.sweeps.process.prepare", found.extend)
    jobs = [Job("", [], each, RunDirectory(each)) for each in (settings(), settings("truncation=adaptive"))]
    for preview, local in ((True, True), (False, False), (False, True)):
        assert found == []
        prepare(Plan(jobs, jobs, Command([], True, "config", root / "conf", None, preview), local))
    ours = ("models.networks", "datasets.copy", "truncation.fixed", "truncation.adaptive")
    assert {*(f"atbptt.{name}" for name in ours), "torch.optim.sgd"} <= set(found)
    assert len(found) == len(set(found))
