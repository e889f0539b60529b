"""The published values are those of docs/experiments.md, their settings those of conf/experiment/."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.tables.published import EXPERIMENTS, Experiment, differences, experiment, published

ROOT = Path(__file__).parents[3]
NAMES = list(EXPERIMENTS)


def documented(name: str) -> tuple[list[float], list[float]]:
    """Values of the table in docs/experiments.md as published and as corrected: fixed lengths, then deltas."""
    lines = (ROOT / "docs/experiments.md").read_text().splitlines()
    rows = [line for line in lines if re.match(rf"\| {name}, (PPL|NLL|corrected) \|", line)]
    values = [[float(number) for number in re.findall(r"-?\d+\.\d+", row.split("|", 3)[3])] for row in rows]
    return values[0], values[-1]


def values_of(one: Experiment) -> list[tuple[float, float]]:
    arms = [("fixed", K) for K in one.fixed] + [("adaptive", delta) for delta in one.adaptive]
    found = [published(one, policy, parameter) for policy, parameter in arms]
    return [(value.published, value.corrected) for value in found if value]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_documented_ones(name: str) -> None:
    one = EXPERIMENTS[name]
    raw, corrected = documented(name)
    assert len(raw) == 8
    assert [value for value, _ in values_of(one)] == raw
    assert [round(value, one.decimals) for _, value in values_of(one)] == corrected


def test_a_correction_by_hand() -> None:
    ptb, book = EXPERIMENTS["ptb"], EXPERIMENTS["book_order"]
    value = published(ptb, "fixed", 10)
    assert value is not None
    assert value.corrected == pytest.approx(math.exp(math.log(99.9) / 0.9949))
    value = published(book, "adaptive", 0.9)
    assert value is not None
    assert value.corrected == pytest.approx(-4.745 * 646 / 600)


def test_what_is_not_published() -> None:
    ptb = EXPERIMENTS["ptb"]
    assert published(ptb, "fixed", 35) is None
    assert published(ptb, "adaptive", 10) is None
    assert published(ptb, "mine", 10) is None
    assert published(ptb, "fixed", None) is None
    assert experiment("ptb", "valid_ppl") is ptb
    assert experiment("ptb", "valid_loss") is None
    assert experiment("linear", "valid_loss") is None


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in tree.items():
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result


def composed(name: str, kind: str) -> dict[str, Any]:
    """The options of the experiment, as conf/ composes them."""

    def read(path: str) -> dict[str, Any]:
        file = ROOT / "conf" / path
        content = yaml.safe_load(file.read_text()) if file.exists() else {}
        return flat({key: value for key, value in content.items() if key not in ("defaults", "hydra")})

    def group(name: str, *paths: str) -> dict[str, Any]:
        return {f"{name}.{key}": value for path in paths for key, value in read(path).items()}

    model = "point_process" if name == "book_order" else "lstm"
    return {
        **read("config.yaml"),
        "probe.estimator": "ols",  # runs store probe.decay_fit by its former name
        **group("model", f"model/{model}.yaml"),
        **group("dataset", f"dataset/{name}.yaml"),
        **group("truncation", f"truncation/{kind}.yaml"),
        **read(f"experiment/{name}.yaml"),
        **group("model", f"published/model/{name}_{model}.yaml"),
        **group("dataset", f"published/dataset/{name}_{name}.yaml"),
        **group("truncation", f"published/truncation/{name}_{kind}.yaml"),
        "truncation": kind,
        "optimizer": "sgd",
    }


@pytest.mark.parametrize("kind", ["fixed", "adaptive"])
@pytest.mark.parametrize("name", NAMES)
def test_the_experiments_of_conf_have_the_published_settings(name: str, kind: str) -> None:
    run = composed(name, kind)
    assert differences(EXPERIMENTS[name], run) == []
    # Each option counts: none of them is met by chance.
    one = EXPERIMENTS[name]
    for option in [*one.options, *(one.probe if kind == "adaptive" else [])]:
        (found,) = differences(one, {**run, option: 12345})
        assert found.startswith(f"{option}=12345 (published ")


def test_differences_are_named() -> None:
    run = composed("ptb", "fixed")
    assert differences(EXPERIMENTS["ptb"], {**run, "model.hidden": 200, "lr": 3.0}) == [
        "model.hidden=200 (published 900)",
        "lr=3 (published 1 or 10)",
    ]
    del run["model.tied"]
    assert differences(EXPERIMENTS["ptb"], run) == ["model.tied=- (published True)"]
    # What only the adaptive policy reads does not matter to fixed lengths.
    assert differences(EXPERIMENTS["ptb"], {**composed("ptb", "fixed"), "probe.window": 100}) == []
