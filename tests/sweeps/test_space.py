"""What a search chooses from, as a command line says it."""

import copy
import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atbptt.errors import ConfigError
from atbptt.sweeps.planning import Composed, compose
from atbptt.sweeps.space import Dimension, SearchOptions, Space, read_space

TPE: dict[str, Any] = {"_target_": "optuna.samplers.TPESampler", "seed": 0}
OPTIONS = SearchOptions(TPE, 20, None, "minimize", None, 0.5, {})


@functools.cache
def composed_once(root: Path) -> Composed:
    composed = compose(["-m", "hydra/sweeper=optuna", "lr=1,2"], root / "conf")
    assert composed is not None
    return composed


def space_of(root: Path, *arguments: str) -> Space:
    known = composed_once(root)
    return read_space(known.made.hydra, replace(known.command, overrides=[*arguments]), known.shared)


@pytest.mark.parametrize(
    ("typed", "dimension", "shown"),
    [
        ("lr=interval(0.1,30)", Dimension(low=0.1, high=30.0), "0.1 to 30"),
        ("lr=tag(log,interval(0.1,30))", Dimension(low=0.1, high=30.0, log=True), "0.1 to 30, log"),
        ("truncation.K=int(interval(2,9))", Dimension(low=2, high=9, step=1), "2 to 9"),
        ("truncation.K=tag(log,int(interval(2,9)))", Dimension(low=2, high=9, log=True), "2 to 9, log"),
        ("truncation.K=range(2,9,3)", Dimension(low=2, high=8, step=3), "2 to 8 in steps of 3"),
        ("truncation.K=range(9,2,-3)", Dimension(low=3, high=9, step=3), "3 to 9 in steps of 3"),
        ("truncation.K=shuffle(range(2,9,3))", Dimension(low=2, high=8, step=3), "2 to 8 in steps of 3"),
        ("lr=shuffle(3,1,2)", Dimension(("1", "2", "3")), "1, 2, 3"),
        ("lr=range(3,4)", Dimension(("3",)), "3"),
        ("clip_norm=1,null", Dimension(("1", "null")), "1, null"),
        ("model=glob(rnn*)", Dimension(("rnn_relu", "rnn_tanh")), "rnn_relu, rnn_tanh"),
    ],
)
def test_an_option_with_several_values_is_searched(root: Path, typed: str, dimension: Dimension, shown: str) -> None:
    found = space_of(root, typed, "seed=3")
    assert found.dimensions == {typed.partition("=")[0]: dimension}
    assert str(dimension) == shown
    assert "seed=3" in found.fixed


def test_numbers_are_rounded_and_stay_in_their_range() -> None:
    assert Dimension(low=0.1, high=30.0).rounded(1 / 3) == 0.333333
    assert Dimension(low=1 / 3, high=1.0).rounded(1 / 3) == 1 / 3
    assert Dimension(low=2, high=9, step=1).rounded(7) == 7
    assert Dimension(low=0.1234567, high=0.9, step=0.1).rounded(0.1234567 + 4 * 0.1) == 0.5234567


def test_params_of_the_sweeper_are_searched_unless_the_command_line_sets_them(root: Path) -> None:
    known = composed_once(root)
    shared = copy.deepcopy(known.shared)
    shared.hydra.sweeper.params = {"lr": "interval(1,2)", "seed": "interval(1,2)", "clip_norm": 3}
    found = read_space(known.made.hydra, replace(known.command, overrides=["seed=4"]), shared)
    assert (list(found.dimensions), found.fixed) == (["lr"], ["clip_norm=3", "seed=4"])


def test_inits_are_the_runs_of_a_trial_and_corners_have_every_choice_and_both_ends(root: Path) -> None:
    found = space_of(root, "lr=interval(1,2)", "model=lstm,gru,rnn_tanh", "init=range(2)")
    assert found.jobs({"lr": 1.5}) == [[*found.fixed, "lr=1.5", f"init={init}"] for init in (0, 1)]
    assert space_of(root, "lr=interval(1,2)", "++init=3,4").inits == ["++init=3", "++init=4"]
    corners = [jobs[len(found.fixed) :] for jobs in found.corners()]
    models = ("lstm", "gru", "rnn_tanh")
    expected = [[f"lr={lr}", f"model={model}", "init=0"] for lr, model in zip((1.0, 2.0, 1.37037), models, strict=True)]
    assert corners == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lr=1", r"^hydra/sweeper \(=optuna\) has nothing to choose: give an option a range, as in lr='tag\(log"),
        ("lr=interval(2,1)", r"^lr \(=2 to 1\) must be an interval from a lower to a higher number$"),
        ("lr=tag(log,interval(0,1))", r"^lr \(=0 to 1\) must be above 0 for the tag log$"),
        ("lr=tag(fast,interval(0,1))", r"^lr has the tag fast: a search knows only log, of an interval$"),
        ("lr=tag(log,range(1,9))", r"^lr has the tag log: a search knows only log, of an interval$"),
        ("lr=1,2 init=interval(0,9)", r"^init must be a list of values or a range to be averaged over$"),
        ("lr=1,2 hydra.launcher.n_jobs=1,2", r"^hydra.launcher.n_jobs cannot be searched: it changes no result$"),
    ],
)
def test_what_cannot_be_searched_is_named(root: Path, arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space_of(root, *arguments.split())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("n_trials", 0, r"^hydra.sweeper.n_trials \(=0\) must be at least 1$"),
        ("n_trials", "x", r"^hydra.sweeper.n_trials \(=x\) must be a whole number, at least 1$"),
        ("n_jobs", 0, r"^hydra.sweeper.n_jobs \(=0\) must be at least 1$"),
        ("direction", "maximize", r"^hydra.sweeper.direction \(=maximize\) must be minimize: of every validation m"),
        ("max_failure_rate", 2, r"^hydra.sweeper.max_failure_rate \(=2\) must be between 0 and 1$"),
        ("study_name", "a/b", r"^hydra.sweeper.study_name \(=a/b\) must be the name of a folder, without / or"),
        ("params", 3, r"^hydra.sweeper.params \(=3\) must be a range for each option: "),
        ("sampler", "tpe", r"^hydra.sweeper.sampler \(=tpe\) must be chosen by the group: hydra/sweeper/sam"),
        ("sampler", TPE | {"seed": -1}, r"^hydra.sweeper.sampler.seed \(=-1\) must be at least 0$"),
        ("sampler", TPE | {"n_ei_candidates": 0}, r"^hydra.sweeper.sampler.n_ei_candidates \(=0\) must be at least 1$"),
        ("sampler", TPE | {"gamma": 3}, r"^hydra.sweeper.sampler \(=gamma\) must be one of seed, n_startup_tri"),
        ("sampler", TPE | {"_target_": "x.Y"}, r"^hydra.sweeper.sampler._target_ \(=x.Y\) must be one of optuna.sam"),
    ],
)
def test_bad_options_of_a_search_are_named(option: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(OPTIONS, **{option: value})
