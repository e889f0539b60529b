import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from atbptt.config.jobs import ConfigFile
from atbptt.config.settings import Settings
from atbptt.datasets import Copy
from atbptt.errors import ConfigError
from atbptt.runs import BusyError, RunDirectory, schema
from atbptt.runs.provenance import Origin, code
from atbptt.training.experiment import build, run
from atbptt.windows.schemes import SCHEMES
from tests.helpers.comparing import differences_of_a_run
from tests.helpers.projects import POLICY, Project
from tests.helpers.training import metrics, series

Make = Callable[..., Settings]
LEARNS = [("sgd", 0.5), ("momentum", 0.1), ("adadelta", 1.0), ("adam", 0.02), ("sgd", 0.5)]


def test_a_finished_run_is_left_alone(settings: Make) -> None:
    directory = run(settings())
    before = {file.name: file.stat().st_mtime_ns for file in directory.path.iterdir()}
    run(settings())
    assert {file.name: file.stat().st_mtime_ns for file in directory.path.iterdir()} == before


def test_the_same_init_starts_all_policies_from_the_same_parameters(settings: Make) -> None:
    def initial(*overrides: str) -> torch.Tensor:
        return build(settings(*overrides)).model.decoder.weight  # type: ignore[union-attr,return-value]

    assert torch.equal(initial(), initial("truncation=adaptive", "lr=3", "seed=4", "scheme=tf"))
    assert not torch.equal(initial(), initial("init=1"))


def test_weight_decay_and_momentum_reach_the_optimizer(settings: Make) -> None:
    (group,) = build(settings("optimizer=momentum", "optimizer.weight_decay=0.25")).optimizer.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.9, 0.25)


@pytest.mark.parametrize(
    ("optimizer", "lr", "scheme"), [(*one, scheme) for one, scheme in zip(LEARNS, SCHEMES, strict=True)]
)
def test_every_optimizer_learns_and_every_scheme(settings: Make, optimizer: str, lr: float, scheme: str) -> None:
    overrides = (f"scheme={scheme}", f"optimizer={optimizer}", f"lr={lr}", "lr_scaling=none", "truncation.K=4")
    loss = series(run(settings(*overrides, "epochs=3")), "valid_loss")
    assert loss[-1] < 0.95 * loss[0]


@pytest.mark.parametrize(
    ("model", "dataset"),
    [("lstm", "copy_variable"), ("gru", "repeat"), ("rnn_tanh", "linear"), ("rnn_relu", "copy_variable")],
)
def test_every_model_and_task_runs(settings: Make, model: str, dataset: str, tiny: tuple[str, ...]) -> None:
    size = tuple(o for o in tiny if "length" not in o)
    directory = run(settings(f"model={model}", f"dataset={dataset}", "model.layers=2", "lr=0.1", "epochs=1", size=size))
    assert all(math.isfinite(value) for value in series(directory, "valid_loss"))
    assert ("valid_ppl" in set(metrics(directory)["metric"])) is (dataset != "linear")


@pytest.mark.parametrize(
    ("override", "rule"), [("probe.burn_in=55", r"probe\.burn_in"), ("truncation=randomized", "scheme .* must be tf")]
)
def test_a_bad_config_leaves_nothing_behind(settings: Make, tmp_path: Path, override: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        run(settings(override))
    assert list(tmp_path.iterdir()) == []


def test_a_task_may_have_notes_and_no_predictions(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(Copy):
        notes = ("three streams",)
        predictions = None  # type: ignore[assignment]

    monkeypatch.setattr("atbptt.datasets.Copy", Quiet)
    directory = run(settings("epochs=1"))
    assert (directory.path / schema.LOG).read_text().count("data, three streams\n") == 1
    assert not (directory.path / schema.PREDICTIONS).exists()


@pytest.mark.parametrize("planned", [True, False])
def test_a_run_that_a_sweep_has_planned_does_not_check_its_models_memory_again(
    settings: Make, monkeypatch: pytest.MonkeyPatch, planned: bool
) -> None:
    checked = Mock()
    monkeypatch.setattr("atbptt.models.recurrent.check_memory", checked)
    plan = settings("epochs=1")
    run(plan, Origin(experiment_id=plan.experiment_id if planned else None))
    assert checked.called is not planned


def test_a_rerun_begins_anew_once_and_keeps_the_run(settings: Make) -> None:
    """Even where a kill came between the move and the first checkpoint; the results are the same."""
    first = run(settings(), Origin("2026-01-01"))
    anew = Origin("2026-01-02", rerun=True)
    first.set_aside(anew.sweep)  # then it is killed
    second = run(settings(), anew)
    (old,) = second.old.iterdir()
    assert not list(differences_of_a_run(second.path, old))
    status = second.status()
    assert (status["state"], status["attempt"], status["sweep"]) == ("finished", 1, "2026-01-02")
    assert run(settings(), anew).status() == status  # the same job again, as when Slurm requeues it
    assert run(settings()).status() == status
    with pytest.raises(ConfigError, match="burn_in"):
        run(settings("probe.burn_in=55"), anew)
    with second.lock(), pytest.raises(BusyError):
        run(settings(), Origin("2026-01-03", rerun=True))
    assert [*second.old.iterdir()] == [old]


def test_an_edit_of_a_users_class_is_another_run_which_begins_anew(settings: Make, project: Project) -> None:
    """Else it would be skipped, or with more epochs go on from the other code's checkpoint."""
    mine = "truncation._target_=mine.Mine"
    project.write(mine=POLICY)
    first = run(settings(mine, "epochs=1"))
    began = first.status()["started"]
    project.write(mine=f"# a comment\n{POLICY}")
    assert run(settings(mine, "epochs=1")).status()["started"] == began
    project.write(mine=POLICY.replace("self.K = K", "self.K = K + 1"))
    second = run(settings(mine, "epochs=2"))
    assert second.path != first.path
    assert (second.status()["attempt"], second.status()["K"], first.status()["K"]) == (1, 11, 10)
    assert first.status()["epoch"] == 1


@pytest.mark.parametrize("edited", ["code", "data"])
def test_a_run_of_a_sweep_fails_if_its_process_finds_other_code_or_data(
    settings: Make, project: Project, tmp_path: Path, edited: str
) -> None:
    """As on a cluster, where a job imports the code when it starts; what has been finished stays so."""
    data = tmp_path / "data.txt"
    data.touch()
    text = "super().__init__(2, 2, 6, 60, 30, 30, 4, 0)"
    text = f"from atbptt.datasets import Copy\nclass Mine(Copy):\n  def __init__(self, path: str):\n    {text}\n"
    project.write(mine=text)
    planned = settings().model_copy(update={"dataset": {"_target_": "mine.Mine", "path": str(data)}})
    origin = Origin("sweep", {"repositories": []}, ["launch.py"], planned.experiment_id, planned.hashes())
    run(planned.model_copy(update={"epochs": 1.0}), origin)
    if edited == "code":
        project.write(mine=text.replace("6", "7"))
        rule = r"^dataset\._target_ \(=mine\.Mine\) has other code than when the sweep began: launch it anew$"
    else:
        data.write_text("1")
        rule = rf"^dataset\.path \(={data}\) holds other data than when the sweep began: launch it anew$"
    with pytest.raises(ConfigError, match=rule):
        run(planned, origin)
    directory = RunDirectory(planned, origin.experiment_id)
    assert (directory.status()["state"], directory.status()["epoch"]) == ("finished", 1)
    assert (directory.path / schema.SOURCE / "mine.py").read_text() == text
    with pytest.raises(ConfigError, match=r"^experiment_id \(=\w+\) is \w+ with the present data and code: launch it "):
        run(planned, replace(origin, hashes={}))  # a plan of an earlier version


def test_a_run_stores_where_it_comes_from(settings: Make) -> None:
    """Every attempt adds its code, packages, machine and the YAML files of --config-dir."""
    run(settings("epochs=1"))
    files = [ConfigFile("model/gru.yaml", "/mine", True)]
    other = {**code(), "repositories": []}
    directory = run(settings("epochs=2"), Origin("sweep", other, ["launch.py"], config_files=files))
    first, second = json.loads((directory.path / schema.ENVIRONMENT).read_text())["attempts"]
    assert first["code"] == code()
    assert first["code"]["packages"]["torch"] == torch.__version__
    assert first["machine"]["cores"] >= 1
    assert (second["sweep"], second["command"]) == ("sweep", ["launch.py"])
    status = directory.status()
    assert (status["sweep"], status["attempt"], status["first_epoch"]) == ("sweep", 2, 1.0)
    assert first["config_files"] == []
    assert second["config_files"] == [{"name": "model/gru.yaml", "folder": "/mine", "replaces": True}]
    log = (directory.path / schema.LOG).read_text()
    assert "continues with other code: commit" in log
    assert log.count("model/gru.yaml is taken from /mine, not the shipped one\n") == 1
