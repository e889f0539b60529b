from __future__ import annotations

import math

import pytest

from analysis import AnalysisError
from analysis.figures import NoDataError, choose_runs
from analysis.figures.runs import named, option
from tests.helpers.made_runs import fixed_and_adaptive, gradients, run, sweep


def test_the_best_run_of_each_kind_then_of_each_policy() -> None:
    frame = fixed_and_adaptive()
    assert choose_runs(frame) == {"c": "adaptive delta=0.9, init=0", "a": "fixed K=5, init=0"}
    better = sweep(frame, *(run(f"K{K}", {"valid_ppl": [K / 10]}, truncation__K=K) for K in (1, 2, 3, 4)))
    assert list(choose_runs(better, "valid_ppl")) == ["K1", "c", "K2", "K3"]
    assert list(choose_runs(better, "valid_ppl", most=2)) == ["K1", "c"]


def test_a_diverged_run_is_not_chosen() -> None:
    assert choose_runs(sweep(run("a", {"valid_ppl": [math.nan]})), "valid_ppl") == {}


def test_panels_are_in_the_order_of_the_names() -> None:
    frame = fixed_and_adaptive()
    table = gradients("a")
    assert named(table, frame, None) == {"a": "fixed K=5, init=0"}
    assert named(table, frame, {"b": "second", "a": "first"}) == {"a": "first"}


def test_long_titles_are_broken_where_the_next_panel_begins() -> None:
    frame = fixed_and_adaptive()
    table = sweep(gradients("a"), gradients("b"))
    title = "word " * 14
    assert named(table, frame, {"a": title})["a"].splitlines() == ["word " * 13 + "word"]
    lines = named(table, frame, {"a": title, "b": "b"})["a"].splitlines()
    assert lines == ["word word word word word word", "word word word word word word", "word word"]


def test_too_many_or_no_runs() -> None:
    frame = fixed_and_adaptive()
    with pytest.raises(NoDataError, match="no run has stored"):
        named(gradients("a").iloc[:0], frame, None)
    table = gradients("a")
    many = sweep(*(table.assign(experiment_id=str(number)) for number in range(5)))
    with pytest.raises(AnalysisError, match=r"runs \(=5\) must be at most 4"):
        named(many, frame, None)


def test_options_may_be_null_or_absent() -> None:
    frame = fixed_and_adaptive()
    assert option(frame, "a", "probe.tau") == 3
    assert option(frame, "a", "probe.fit_from") is None
    assert option(frame, "a", "probe.nothing") is None
