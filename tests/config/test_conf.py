"""The YAML files in conf/: all compose, can be built, and say what they mean."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbptt.config import CONFIG_NAME, SUPPLIED, Settings, composer, flattened, job_config
from atbptt.models.states import tensors
from atbptt.training.experiment import build, build_policy
from atbptt.truncation import BEYOND_ANY_STREAM, Adaptive
from tests.conftest import TINY_PROBE, TINY_STREAMS

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "dataset", "truncation", "optimizer", "lr_decay", "device", "probe", "experiment", "size", "arm")
OPTIONS = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in GROUPS}
EVERY_OPTION = [(group, option) for group, options in OPTIONS.items() for option in options]
LEAF = re.compile(r"^ *(?P<key>[\w]+): +(?P<value>[^#\s].*)$")
FILES = ("arrays", "text", "ptb", "wikitext2", "events", "book_order")  # data sets that are read from files


@pytest.fixture
def compose(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """Checked settings of an option of a group, and of further overrides; data files are small ones of the test."""
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))
    sequences = np.arange(240).reshape(60, 4) % 5
    arrays = {f"{s}_{kind}": sequences for s in ("train", "valid", "test") for kind in ("inputs", "targets")}
    np.savez(tmp_path / "mine.npz", **arrays)
    for split in ("train", "valid", "test"):
        for name in (f"{split}.txt", f"ptb.{split}.txt"):
            (tmp_path / name).write_text("one two three four five six\n" * 300)
        for name in (split, f"1-{split}"):
            (tmp_path / f"event-{name}.txt").write_text("1 2 1 1 2 2 1 2\n" * 300)
            (tmp_path / f"time-{name}.txt").write_text("0 0.1 0.3 0.4 0.4 1 1.5 2\n" * 300)

    def make(group: str, option: str, *overrides: str) -> Settings:
        chosen = [f"{group}={option}", *overrides]
        data = next((o.split("=")[1] for o in chosen if o.startswith("dataset=")), option)
        path = tmp_path / "mine.npz" if data == "arrays" else tmp_path
        needed = [f"dataset.path={path}"] if data in FILES else []
        return settings(*chosen, *needed, size=())

    return make


def test_every_leaf_says_what_it_means() -> None:
    explained, silent = set(), []
    for path in sorted(CONF.rglob("*.yaml")):
        relative = path.relative_to(CONF)
        if relative.parts[0] in ("published", "experiment") or relative.parts[:2] == ("hydra", "help"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            leaf = LEAF.match(line)
            if leaf and leaf["key"] != "_target_" and (leaf["key"] != "name" or relative.name == "config.yaml"):
                explained.add(str(relative))
                silent += [] if re.search(r" # *\w", line) else [f"conf/{relative}:{number}: {line.strip()}"]
    assert explained >= {f"{group}/{option}.yaml" for group, option in EVERY_OPTION if group != "experiment"}
    assert silent == []


def test_a_size_devices_and_arms_set_what_they_are_named_after(compose: Callable[..., Settings]) -> None:
    assert compose("size", "small").epochs < compose("lr", "1").epochs
    for device in OPTIONS["device"]:
        assert compose("device", device).device.type == device
    for arm in OPTIONS["arm"]:
        policy, value = re.fullmatch(r"(K|delta)(.*)", arm).groups()  # type: ignore[union-attr]
        truncation = compose("arm", arm).truncation
        assert (truncation["name"], truncation[policy]) == ({"K": "fixed", "delta": "adaptive"}[policy], float(value))


@pytest.mark.parametrize(("group", "option"), [pair for pair in EVERY_OPTION if pair[0] in SUPPLIED])
def test_every_class_can_be_built_and_steps(compose: Callable[..., Settings], group: str, option: str) -> None:
    data = option if group == "dataset" else "events" if option == "point_process" else "copy_fixed"
    size = [f"dataset={data}"] if group != "dataset" else []
    size += [*TINY_PROBE, "probe.fit_from=null", "model.hidden=6", "scheme=tf"]
    size += TINY_STREAMS if data not in FILES else ()
    size += ["dataset.max_length=8"] if data == "copy_growing" else []
    size += ["lr_decay.epochs=[5,10]"] if option == "step" else []
    composed = compose(group, option, *size)
    assert getattr(composed, group)["name"] == option
    task, model, policy, optimizer, schedule = build(composed)
    batch = task.train.batch
    inputs, targets = task.train.read(0, 5)
    outputs, state = model(inputs, model.initial_state(batch))
    assert outputs.shape == (5, batch, task.output_size)
    assert all(torch.isfinite(part).all() for part in tensors(state))
    before = [p.detach().clone() for p in model.parameters()]
    losses = task.loss(outputs, targets)
    assert losses.shape == (5, batch)
    losses.mean().backward()
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    schedule.validated(1.0)
    assert schedule.rate(1.0, 0.0) == 1
    assert {"warmup": 2, "full": BEYOND_ANY_STREAM}.get(option, 10) == policy.K


@pytest.mark.parametrize(
    ("overrides", "scaling"),
    [
        *((f"optimizer={optimizer}", "sqrt") for optimizer in ("sgd", "momentum")),
        *((f"optimizer={optimizer}", "none") for optimizer in ("adam", "adadelta")),
        ("optimizer=adam lr_scaling=sqrt", "sqrt"),
        ("optimizer=adam experiment=wikitext2", "linear"),
        ("optimizer=adam experiment=mine", "none"),
        ("optimizer=own", "sqrt"),
        ("optimizer=derived", "none"),
    ],
)
def test_an_optimizer_that_scales_its_steps_brings_no_scaling_unless_said(
    tmp_path: Path, overrides: str, scaling: str
) -> None:
    for name, text in {
        "experiment/mine": "# @package _global_\ndefaults:\n  - override /optimizer: sgd\nlr: 0.5\n",
        "optimizer/own": "_target_: torch.optim.Adam\neps: 0.5\n",
        "optimizer/derived": "defaults: [adam]\neps: 0.5\n",
    }.items():
        (tmp_path / name).with_suffix(".yaml").parent.mkdir(exist_ok=True)
        (tmp_path / name).with_suffix(".yaml").write_text(text)
    with composer(CONF, tmp_path) as hydra:
        made = job_config(hydra, CONFIG_NAME, overrides.split())
    assert made["lr_scaling"] == scaling
    assert made["optimizer"]["_target_"].startswith("torch.optim.")
    assert ("own" in overrides or "derived" in overrides) == (made["optimizer"].get("eps") == 0.5)


PUBLISHED: dict[str, dict[str, Any]] = {
    # The table of published settings; probe is W, tau, burn-in, probes, kept_norm.
    "copy_fixed": {
        "model": {"layers": 2, "hidden": 50, "embedding": None, "tied": False, "dropout": 0},
        "dataset": {"min_length": 10, "max_length": 10, "symbols": 6, "batch_size": 64},
        "steps": (4000, 1000, 1000),
        "training": ({1.0}, "sqrt", 1e-5),
        "policy": (15, 2, 100, 5000),
        "probe": (100, 80, 20, 1, "of_mean"),
        "K": [5, 10, 15, 20, 30],
    },
    "ptb": {
        "model": {"layers": 1, "hidden": 900, "embedding": 900, "tied": True, "dropout": 0.2},
        "dataset": {"batch_size": 32},
        "training": ({1.0, 10.0}, "sqrt", 1e-7),
        "policy": (100, 10, 300, None),
        "probe": (400, 360, 40, 5, "sum"),
        "K": [10, 50, 100, 200, 300],
    },
    "wikitext2": {
        "model": {"layers": 1, "hidden": 512, "embedding": 512, "tied": True, "dropout": 0.2},
        "dataset": {"batch_size": 16},
        "training": ({10.0}, "linear", 1e-7),
        "policy": (100, 10, 300, None),
        "probe": (400, 360, 40, 5, "sum"),
        "K": [10, 50, 100, 200, 300],
    },
    "book_order": {
        "model": {"layers": 2, "hidden": 128, "embedding": 128, "dropout": 0},
        "dataset": {"batch_size": 64},
        "training": ({0.1}, "none", 1e-3),
        "policy": (6, 2, 100, 5000),
        "probe": (200, 180, 20, 1, "of_mean"),
        "K": [3, 6, 9, 15, 21],
    },
}
PUBLISHED["copy_variable"] = PUBLISHED["copy_fixed"] | {
    "dataset": PUBLISHED["copy_fixed"]["dataset"] | {"min_length": 5}
}


@pytest.mark.parametrize("experiment", OPTIONS["experiment"])
def test_a_published_experiment_has_the_published_settings(compose: Callable[..., Settings], experiment: str) -> None:
    composed = compose("experiment", experiment, "arm=delta0.9")
    published = PUBLISHED[experiment]
    assert (composed.name, composed.dataset["name"]) == (f"published_{experiment}", experiment)
    assert {key: composed.dataset[key] for key in published["dataset"]} == published["dataset"]
    assert {key: composed.model[key] for key in published["model"]} == published["model"]
    assert composed.model["cell"] == "lstm"
    rates, scaling, decay = published["training"]
    assert composed.lr in rates
    assert (composed.lr_scaling, composed.optimizer["weight_decay"], composed.clip_norm) == (scaling, decay, 1)
    assert composed.optimizer["_target_"] == "torch.optim.SGD"
    K_init, K_min, K_max, update_steps = published["policy"]
    policy = composed.truncation
    assert [policy[key] for key in ("K_init", "K_min", "K_max", "delta")] == [K_init, K_min, K_max, 0.9]
    train_steps = composed.dataset.get("train_steps", 5184)  # of the book orders
    every = 1.0 if update_steps is None else update_steps / train_steps
    assert policy["update_every"] == pytest.approx(every, rel=1e-15)
    probe = composed.probe
    assert (probe.window, probe.tau, probe.burn_in, probe.probes, probe.kept_norm) == published["probe"]
    assert (probe.fit_from, probe.positions, composed.scheme) == (0, 1, "original-buffer")
    if "steps" in published:
        assert tuple(composed.dataset[f"{split}_steps"] for split in ("train", "valid", "test")) == published["steps"]


@pytest.mark.parametrize("experiment", OPTIONS["experiment"])
def test_an_experiment_opens_with_its_command_its_cost_and_the_published_results(experiment: str) -> None:
    published = PUBLISHED[experiment]
    opening = (CONF / "experiment" / f"{experiment}.yaml").read_text().split("defaults:")[0]
    command = rf"# +python launch.py -m experiment={experiment} arm=(\S+)( lr=1,10)? init='range\(9\)'$"
    arms, rates = re.search(command, opening, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert (rates is not None) == (published["training"][0] == {1.0, 10.0})
    named = [*(f"K{K}" for K in published["K"]), "delta0.9", "delta0.5", "delta0.1"]
    assert sorted(arms.split(",")) == sorted(named)
    assert set(named) <= set(OPTIONS["arm"])
    assert re.search(r"# Cost: .*\d", opening)
    assert len(re.findall(r"-?\d+\.\d+", opening.split("# Published")[1])) >= len(named)


@pytest.mark.parametrize("experiment", OPTIONS["experiment"])
def test_a_small_experiment_exercises_the_same(compose: Callable[..., Settings], experiment: str) -> None:
    """Smaller numbers, and no other choice of anything."""
    full, small = (
        dict(flattened(compose("experiment", experiment, "truncation=adaptive", *size).model_dump()))
        for size in ((), ("size=small",))
    )
    changed = {key for key in full if full[key] != small[key]}
    assert "epochs" in changed
    assert all(isinstance(full[key], int | float) and small[key] < full[key] for key in changed), changed


def test_what_an_experiment_sets_for_a_choice_belongs_to_one(root: Path) -> None:
    """These files are optional to hydra: one with a misspelt name would be passed over in silence."""
    for path in (root / "conf" / "published").rglob("*.yaml"):
        group = path.parent.name
        names = [f"{experiment}_{option}" for experiment in OPTIONS["experiment"] for option in OPTIONS[group]]
        names = OPTIONS[group] if group == "probe" else names  # with any experiment
        assert path.stem in names


OWN = {
    "overriding": "defaults:\n  - override /probe: none\nlr: 0.5\n",
    "derived": "defaults:\n  - ptb\n  - override /probe: none\n  - _self_\nprobe: {window: 90}\n",
    "plain": "probe: none\n",
}


@pytest.mark.parametrize(
    ("overrides", "window"),
    [
        *((f"experiment={each} probe=none", None) for each in ("null", *OPTIONS["experiment"])),
        ("experiment=ptb size=small probe=none arm=K5", None),
        *((f"experiment={each}", None) for each in OWN),
        ("experiment=overriding probe=default", 40),
        ("experiment=derived probe=default size=small", 90),
        ("probe=long", 70),
        ("experiment=ptb probe=long", 400),  # as other groups: an experiment comes after them
        ("experiment=ptb probe=long probe.window=390", 390),
    ],
)
def test_probe_none_comes_after_whatever_an_experiment_says_of_probes(
    tmp_path: Path, overrides: str, window: int | None
) -> None:
    for name, text in OWN.items():
        (tmp_path / "experiment").mkdir(exist_ok=True)
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}")
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "long.yaml").write_text("defaults: [default]\nwindow: 70\n")
    given = [override for override in overrides.split() if not override.endswith("=null")]
    with composer(CONF, tmp_path) as hydra:
        probe = job_config(hydra, CONFIG_NAME, given)["probe"]
    assert (probe if probe == "none" else probe["window"]) == (window or "none")


def test_the_librarys_adaptive_policy_has_the_defaults_of_conf(compose: Callable[..., Settings]) -> None:
    assert vars(build_policy(compose("truncation", "adaptive"))) == vars(Adaptive())


def test_the_defaults_list_names_every_option(root: Path) -> None:
    text = (root / "conf" / "config.yaml").read_text()
    for group in [group for group in GROUPS if group != "arm"]:
        (line,) = re.findall(rf"^  - {group}: .*$", text, re.MULTILINE)
        named = line.split("#")[1].split(":")[-1].split()
        assert sorted(named) == OPTIONS[group]


def test_the_help_mentions_every_option_at_the_top_and_uses_options_that_exist() -> None:
    text = (CONF / "hydra" / "help" / "atbptt.yaml").read_text()
    explained = text.split("Options (")[1]
    assert [key for key in Settings.model_fields if not re.search(rf"(?m)^ .*\b{key}\b", explained)] == []
    used = re.findall(rf"\b({'|'.join(OPTIONS)})=(\w+)", text)
    assert len(used) > 2
    assert set(used) <= set(EVERY_OPTION)
