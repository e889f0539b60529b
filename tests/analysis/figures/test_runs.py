import math

import pytest

from analysis import AnalysisError
from analysis.figures import choose_runs
from analysis.figures.runs import by_step, named, option, run_panels
from tests.helpers.made_runs import fixed_and_adaptive, gradients, run, sweep


def test_the_best_run_of_each_kind_then_of_each_policy() -> None:
    frame = fixed_and_adaptive()
    assert choose_runs(frame) == {"c": "adaptive delta=0.9, init=0", "a": "fixed K=5, init=0"}
    better = sweep(frame, *(run(f"K{K}", {"valid_ppl": [K / 10]}, truncation__K=K) for K in (1, 2, 3, 4)))
    assert list(choose_runs(better, "valid_ppl")) == ["K1", "c", "K2", "K3"]
    assert list(choose_runs(better, "valid_ppl", most=2)) == ["K1", "c"]
    assert choose_runs(sweep(run("a", {"valid_ppl": [math.nan]})), "valid_ppl") == {}


def test_a_panel_with_its_title_for_each_run_in_the_order_of_the_names() -> None:
    frame, table = fixed_and_adaptive(), sweep(gradients("a"), gradients("b"))
    figure, each = run_panels(table, frame, "", {"b": "second " * 9, "a": "first"}, 2.0, x="lag")
    assert list(each) == ["b", "a"]
    assert [axes.get_title().count("\n") for axes in each.values()] == [2, 0]
    assert figure.get_figheight() > 2.4  # by the lines of the longest title
    assert each["a"].get_xlabel() == "lag"
    assert named(gradients("a"), frame, None) == {"a": "fixed K=5, init=0"}
    assert named(gradients("a"), frame, {"b": "second", "a": "first"}) == {"a": "first"}
    many = sweep(*(gradients(str(number)) for number in range(5)))
    with pytest.raises(AnalysisError, match=r"runs \(=5\) must be at most 4"):
        named(many, frame, None)


def test_long_titles_are_broken_where_the_next_panel_begins() -> None:
    frame = fixed_and_adaptive()
    table = sweep(gradients("a"), gradients("b"))
    title = "word " * 14
    assert named(table, frame, {"a": title})["a"].splitlines() == ["word " * 13 + "word"]
    lines = named(table, frame, {"a": title, "b": "b"})["a"].splitlines()
    assert lines == ["word word word word word word", "word word word word word word", "word word"]


def test_options_may_be_null_or_absent_and_metrics_are_means_over_probes() -> None:
    frame = fixed_and_adaptive()
    assert [option(frame, "a", f"probe.{name}") for name in ("tau", "fit_from", "nothing")] == [3, None, None]
    both = sweep(frame, frame.assign(replicate=1, value=frame["value"] + 1))
    assert by_step(both, "a", "K").to_dict() == {0: 5.5, 100: 5.5, 200: 5.5, 300: 5.5}
