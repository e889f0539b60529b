"""The published values are those of docs/experiments.md, their settings those that Hydra composes."""

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.statistics import Group
from analysis.tables.published import EXPERIMENTS, beside, differences, settings
from atbptt.config import CONFIG_NAME, composer, job_config, validated
from atbptt.earlier import filled_in

ROOT = Path(__file__).parents[3]
NAMES = list(EXPERIMENTS)
PTB_NOTE = "corrected: with the mean loss over 0.9949, since the released evaluation divided by too long a length"


def documented(name: str) -> tuple[list[float], list[float]]:
    """Values of the table in docs/experiments.md as published and as corrected: fixed lengths, then deltas."""
    lines = (ROOT / "docs/experiments.md").read_text().splitlines()
    rows = [line for line in lines if re.match(rf"\| {name}, (PPL|NLL|corrected) \|", line)]
    values = [[float(number) for number in re.findall(r"-?\d+\.\d+", row.split("|", 3)[3])] for row in rows]
    return values[0], values[-1]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_documented_ones(name: str) -> None:
    one = EXPERIMENTS[name]
    arms = [("fixed", K) for K in one.fixed] + [("adaptive", delta) for delta in one.adaptive]
    found = [value for arm in arms if (value := one.values(*arm))]
    raw, corrected = documented(name)
    assert len(raw) == 8
    assert [value for value, _ in found] == raw
    assert [round(value, one.decimals) for _, value in found] == corrected


def test_some_values_by_hand() -> None:
    assert EXPERIMENTS["ptb"].values("fixed", 10) == (99.9, pytest.approx(math.exp(math.log(99.9) / 0.9949)))
    assert EXPERIMENTS["book_order"].values("adaptive", 0.9) == (-4.745, pytest.approx(-4.745 * 646 / 600))
    for policy, parameter in (("fixed", 35), ("adaptive", 10), ("mine", 10), ("fixed", None)):
        assert EXPERIMENTS["ptb"].values(policy, parameter) is None  # not published


# Options that may differ from the published ones: replicates, budget, where a run ran, the arm.
FREE = re.compile(
    r"experiment_id|name|init|epochs|seconds|evaluate_every|monitor|output_dir|truncation|truncation\.(K|delta)"
    r"|(.*\.)?seed|.*\.(name|path|data_hash|_target_)|device\..*|probe\.resamples"
)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_that_hydra_composes(name: str) -> None:
    with composer(ROOT / "conf") as hydra:
        job = job_config(hydra, CONFIG_NAME, [f"experiment={name}", "truncation=adaptive"])
    stored = filled_in(validated(job).options())  # as they are loaded
    composed = {key: value for key, value in stored.items() if not FREE.fullmatch(key)}
    assert {key: value for key, value in settings(name, "adaptive").items() if value is not None} == composed
    assert not [key for key in settings(name, "fixed") if key.startswith(("probe.", "truncation."))]


@pytest.mark.parametrize("name", NAMES)
def test_each_option_counts(name: str) -> None:
    published = settings(name, "adaptive")
    run = {**published, "truncation": "adaptive"}
    assert differences(name, run) == []
    for option in published:
        (found,) = differences(name, {**run, option: 12345})
        assert found.startswith(f"{option}=12345 (published ")


def test_differences_are_named() -> None:
    run = {**settings("ptb", "fixed"), "truncation": "fixed"}
    expected = ["model.hidden=200 (published 900)", "lr=3 (published 1 or 10)"]
    assert differences("ptb", {**run, "model.hidden": 200, "lr": 3.0}) == expected
    assert differences("ptb", {**run, "lr": 1.0}) == []
    del run["model.tied"]
    assert differences("ptb", run) == ["model.tied=- (published True)"]


def shown(name: str, *runs: dict[str, Any], experiment: str = "") -> tuple[list[tuple[float, float]], list[str]]:
    """What stands beside some runs of an experiment, each of its own setting, and the notes."""
    options = pd.DataFrame(
        {"experiment_id": f"{place}", **settings(name, "fixed"), "truncation": "fixed", **run, "note": f"{place}"}
        for place, run in enumerate(runs)
    )
    group = Group(experiment or f"published_{name}", name, "valid_ppl", options)
    summary = options.assign(policy=[f"fixed K={run.get('truncation.K')}" for run in runs])[group.names]
    found, notes = beside(group, summary)
    columns = found[["published", "corrected"]].round(2) if "published" in found else pd.DataFrame()
    return [tuple(row) for row in columns.fillna(0).itertuples(index=False)], notes


def test_published_values_stand_beside_runs_with_their_settings() -> None:
    runs = [{"truncation.K": K, "lr": lr} for K, lr in ((50, 10.0), (50, 3.0), (35, 10.0))]
    values, notes = shown("ptb", *runs)
    assert values == [(110.8, 113.51), (0, 0), (0, 0)]
    assert [notes[0], *notes[2:]] == [PTB_NOTE, *EXPERIMENTS["ptb"].notes]
    uncorrected = ([(1.35, 1.35)], list(EXPERIMENTS["copy_variable"].notes))
    assert shown("copy_variable", {"truncation.K": 20}) == uncorrected


def test_other_settings_have_no_published_value_but_a_note() -> None:
    other = {"truncation.K": 50, "model.hidden": 200}
    note = "no published value beside other settings: "
    assert shown("ptb", other) == ([], [f"{note}model.hidden=200 (published 900)"])
    _, (_, found, _) = shown("ptb", {"truncation.K": 50}, other, other | {"lr": 3.0})
    assert found == f"{note}such as model.hidden=200 (published 900)"
    many = other | {"lr": 3.0, "clip_norm": 2.0, "scheme": "tf", "lr_decay": "x"}
    assert shown("ptb", many)[1][0].endswith("clip_norm=2 (published 1), and 1 more")
    assert shown("ptb", other | {"truncation.K": 35}) == ([], [])  # nothing is published of K=35
    assert shown("ptb", other, experiment="mine") == ([], [])  # and nobody asked


@pytest.mark.parametrize(("name", "metric"), [("ptb", "valid_loss"), ("linear", "valid_loss")])
def test_nothing_stands_beside(name: str, metric: str) -> None:
    summary = pd.DataFrame({"policy": ["fixed K=50"]})
    group = Group("published_ptb", name, metric, pd.DataFrame())
    assert beside(group, summary) == (summary, [])
