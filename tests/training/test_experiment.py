from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from atbptt.config.settings import Settings
from atbptt.errors import ConfigError
from atbptt.runs import schema
from atbptt.runs.provenance import Origin, code
from atbptt.training.experiment import build, run
from atbptt.windows.schemes import SCHEMES
from tests.helpers.training import metrics, series

Make = Callable[..., Settings]
LEARNS = [("sgd", 0.5), ("momentum", 0.1), ("adadelta", 1.0), ("adam", 0.02)]


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
    ("optimizer", "lr", "scheme"),
    [(name, lr, scheme) for (name, lr), scheme in zip([*LEARNS, LEARNS[0]], SCHEMES, strict=True)],
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


def test_a_bad_config_leaves_nothing_behind(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"probe\.burn_in"):
        run(settings("probe.burn_in=55"))
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_dataset_model_and_policy_need_a_class_and_a_yaml(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    """Classes and YAML that live outside the package, composed as launch.py composes them."""
    from atbptt.sweeps.planning import compose, plan

    (tmp_path / "mine.py").write_text(USERS_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for group, name, option in (
        ("dataset", "Parity", "steps: 50"),
        ("model", "Leaky", "leak: 0.5"),
        ("truncation", "Doubling", "K: 2"),
    ):
        path = tmp_path / "yaml" / group / f"{name.lower()}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(f"name: {name.lower()}\n_target_: mine.{name}\n{option}\n")
    probe = [o for o in tiny if o.startswith("probe")]
    mine = ["dataset=parity", "model=leaky", "truncation=doubling", "model.leak=0.25"]
    arguments = ["--config-dir", str(tmp_path / "yaml"), *probe, *mine, "epochs=3", f"output_dir={tmp_path}/out"]
    composed = compose(arguments, root / "conf")
    assert composed is not None
    planned = plan(composed)
    directory = run(planned.jobs[0].settings)
    assert directory.path.parent == tmp_path / "out" / "parity"
    assert series(directory, "K") == [2, 2, 4, 8]  # at an evaluation, K is that of the window before
    options = pq.read_table(directory.path / schema.OPTIONS).to_pylist()[0]
    assert (options["model"], options["model.leak"], options["truncation"]) == ("leaky", 0.25, "doubling")
    assert not (directory.path / schema.PREDICTIONS).exists()
    assert (directory.path / schema.LOG).read_text().count("data, three streams\n") == 1


USERS_CODE = """
import torch
from atbptt.datasets import Stream, SymbolTask


class Parity(SymbolTask):
    input_size = output_size = 2
    predictions = None
    notes = ("three streams",)

    def __init__(self, steps: int):
        symbols = torch.randint(2, (steps, 3), generator=torch.Generator().manual_seed(0))
        self.train = self.valid = self.test = Stream(symbols, symbols.cumsum(0) % 2)


class Leaky(torch.nn.Module):
    def __init__(self, input_size: int, output_size: int, leak: float):
        super().__init__()
        self.embedding = torch.nn.Embedding(input_size, 3)
        self.mix = torch.nn.Linear(3, 3)
        self.decoder = torch.nn.Linear(3, output_size)
        self.leak = leak

    def forward(self, inputs, state):
        outputs = []
        for x in self.embedding(inputs):
            h = (1 - self.leak) * state["h"] + self.leak * torch.tanh(x + self.mix(state["h"]))
            state = {"h": h}
            outputs.append(h)
        return self.decoder(torch.stack(outputs)), state

    def initial_state(self, batch):
        return {"h": torch.zeros(batch, 3)}


class Doubling:
    def __init__(self, K: int):
        self.first = self.K = K

    def update(self, progress, probe):
        self.K = self.first * 2 ** (progress.step // progress.epoch_steps)
"""


def test_a_run_stores_where_it_comes_from(settings: Make) -> None:
    """Every attempt adds its code, packages and machine."""
    run(settings("epochs=1"))
    directory = run(settings("epochs=2"), Origin("sweep", {**code(), "repositories": []}, ["launch.py"]))
    first, second = json.loads((directory.path / schema.ENVIRONMENT).read_text())["attempts"]
    assert first["code"] == code()
    assert first["code"]["packages"]["torch"] == torch.__version__
    assert first["machine"]["cores"] >= 1
    assert (second["sweep"], second["command"]) == ("sweep", ["launch.py"])
    status = directory.status()
    assert (status["sweep"], status["attempt"], status["first_epoch"]) == ("sweep", 2, 1.0)
    assert "continues with other code: commit" in (directory.path / schema.LOG).read_text()
