"""The YAML files in conf/: all compose, can be built, and say what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from atbptt.config import Settings
from atbptt.experiment import build
from atbptt.states import tensors

CONF = Path(__file__).parents[1] / "conf"
OPTIONS = {
    group: sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    for group in ("model", "dataset", "truncation", "optimizer", "device", "experiment")
}
EVERY_OPTION = [(group, option) for group, options in OPTIONS.items() for option in options]
SMALL = ("dataset.train_steps=60", "dataset.valid_steps=30", "dataset.test_steps=30", "dataset.batch_size=4")
SMALL_PROBE = ("probe.window=12", "probe.tau=8", "probe.burn_in=4", "probe.positions=2")
LEAF = re.compile(r"^ *(?P<key>[\w]+): +(?P<value>[^#\s].*)$")


@pytest.fixture
def compose(settings: Callable[..., Settings], tmp_path: Path) -> Callable[..., Settings]:
    """Checked settings of an option of a group, and of further overrides."""
    sequences = np.arange(240).reshape(60, 4) % 5
    arrays = {f"{s}_{kind}": sequences for s in ("train", "valid", "test") for kind in ("inputs", "targets")}
    np.savez(tmp_path / "mine.npz", **arrays)

    def make(group: str, option: str, *overrides: str) -> Settings:
        needed = [f"dataset.path={tmp_path / 'mine.npz'}"] if option == "arrays" else []
        return settings(f"{group}={option}", *needed, *overrides, size=())

    return make


def commented_leaves() -> Iterator[tuple[str, str]]:
    """Each `key: value` line that owes its reader a comment, as (where, line)."""
    for path in sorted(CONF.rglob("*.yaml")):
        relative = path.relative_to(CONF)
        if relative.parts[0] in ("published", "experiment") or relative.parts[:2] == ("hydra", "help"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            leaf = LEAF.match(line)
            top_level = relative.name == "config.yaml"
            if leaf and leaf["key"] != "_target_" and (leaf["key"] != "name" or top_level):
                yield f"conf/{relative}:{number}", line


def test_leaves_are_found() -> None:
    places = [place for place, _ in commented_leaves()]
    assert len(places) > 80
    assert {place.split(":")[0] for place in places} >= {
        f"conf/{group}/{option}.yaml" for group, option in EVERY_OPTION if group != "experiment"
    }


def test_every_leaf_says_what_it_means() -> None:
    bare = [f"{place}: {line.strip()}" for place, line in commented_leaves() if not re.search(r" # *\w", line)]
    assert bare == []


@pytest.mark.parametrize(("group", "option"), EVERY_OPTION)
def test_every_option_of_every_group_composes_and_passes_the_checks(
    compose: Callable[..., Settings], group: str, option: str
) -> None:
    composed = compose(group, option)
    if group == "experiment":
        assert composed.name == f"published_{option}"
    elif group == "device":
        assert composed.device.type == option
    else:
        assert getattr(composed, group)["name"] == option


@pytest.mark.parametrize(
    ("group", "option"), [pair for pair in EVERY_OPTION if pair[0] not in ("experiment", "device")]
)
def test_every_target_can_be_built_and_steps(compose: Callable[..., Settings], group: str, option: str) -> None:
    size = () if option == "arrays" else SMALL
    task, model, policy, optimizer = build(compose(group, option, *size, *SMALL_PROBE, "model.hidden=6"))
    batch = task.train.batch
    outputs, state = model(task.train.inputs[:5], model.initial_state(batch))
    assert outputs.shape == (5, batch, task.output_size)
    assert all(torch.isfinite(part).all() for part in tensors(state))
    before = [p.detach().clone() for p in model.parameters()]
    losses = task.loss(outputs, task.train.targets[:5])
    assert losses.shape == (5, batch)
    losses.mean().backward()
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert policy.K == 10


@pytest.mark.parametrize("experiment", OPTIONS["experiment"])
def test_a_published_experiment_has_the_published_settings(compose: Callable[..., Settings], experiment: str) -> None:
    """The table of published settings, copy."""
    composed = compose("experiment", experiment, "truncation=adaptive")
    lengths = {"copy_fixed": (10, 10), "copy_variable": (5, 10)}[experiment]
    dataset, model, policy, probe = composed.dataset, composed.model, composed.truncation, composed.probe
    assert (dataset["min_length"], dataset["max_length"], dataset["symbols"]) == (*lengths, 6)
    assert [dataset[f"{split}_steps"] for split in ("train", "valid", "test")] == [4000, 1000, 1000]
    assert (model["cell"], model["layers"], model["hidden"], model["dropout"]) == ("lstm", 2, 50, 0)
    assert (dataset["batch_size"], composed.clip_norm, composed.lr, composed.lr_scaling) == (64, 1, 1, "sqrt")
    assert composed.optimizer["weight_decay"] == 1e-5
    assert [policy[key] for key in ("K_init", "K_min", "K_max")] == [15, 2, 100]
    assert policy["update_every"] * dataset["train_steps"] == 5000
    assert (probe.window, probe.tau, probe.burn_in, probe.probes) == (100, 80, 20, 1)
    assert (probe.kept_norm, probe.fit_from) == ("of_mean", 0)
    assert composed.scheme == "original-buffer"


def test_an_experiment_leaves_other_choices_of_a_group_alone(compose: Callable[..., Settings]) -> None:
    composed = compose("experiment", "copy_fixed", "dataset=copy_variable", "truncation=fixed")
    assert composed.dataset["train_steps"] == 1000
    assert set(composed.truncation) == {"name", "_target_", "K"}


def test_what_an_experiment_sets_for_a_choice_belongs_to_one(root: Path) -> None:
    """These files are optional to hydra: one with a misspelt name would be passed over in silence."""
    for path in (root / "conf" / "published").rglob("*.yaml"):
        group = path.parent.name
        names = [f"{experiment}_{option}" for experiment in OPTIONS["experiment"] for option in OPTIONS[group]]
        assert path.stem in names


@pytest.mark.parametrize("experiment", OPTIONS["experiment"])
def test_an_experiment_opens_with_its_command(root: Path, experiment: str) -> None:
    text = (root / "conf" / "experiment" / f"{experiment}.yaml").read_text()
    opening = text.split("defaults:")[0]
    assert re.search(rf"python launch.py .*experiment={experiment} ", opening)
    assert re.search(r"# Cost: .*\d", opening)
    assert "ublished" in opening


@pytest.mark.parametrize("group", OPTIONS)
def test_the_defaults_list_names_every_option(root: Path, group: str) -> None:
    (line,) = re.findall(rf"^  - {group}: .*$", (root / "conf" / "config.yaml").read_text(), re.MULTILINE)
    told = line.split("#")[1].split(":")[-1].split()
    assert sorted(told) == OPTIONS[group]


def test_the_help_mentions_every_option_at_the_top(root: Path) -> None:
    text = (root / "conf" / "hydra" / "help" / "atbptt.yaml").read_text()
    explained = text.split("Options (")[1]
    missing = [key for key in Settings.model_fields if not re.search(rf"(?m)^ .*\b{key}\b", explained)]
    assert missing == []


def test_the_helps_commands_use_options_that_exist(root: Path) -> None:
    text = (root / "conf" / "hydra" / "help" / "atbptt.yaml").read_text()
    used = re.findall(rf"\b({'|'.join(OPTIONS)})=(\w+)", text)
    assert len(used) > 2
    assert set(used) <= set(EVERY_OPTION)
