import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError, best_validation, labels, load, policies, settings, summarize
from analysis.statistics.summary import comparable, format_value, natural, options_of
from tests.helpers.made_runs import fixed_and_adaptive, run, sweep as made


def options(**columns: list[Any]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    named = {name.replace("__", "."): pd.array(values) for name, values in columns.items()}
    return pd.DataFrame({"experiment_id": [f"{n:012x}" for n in range(count)], **named})


def test_best_validation_takes_the_other_values_of_that_evaluation(sweep: Path) -> None:
    best = best_validation(load(sweep)).set_index("experiment_id")
    # The lowest test values are elsewhere; of two equal validations the earlier counts.
    assert best["valid"].tolist() == [1.2, 1.4, 1.1]
    assert best["test"].tolist() == [1.25, 1.45, 1.12]
    assert best["epoch"].tolist() == [2, 3, 2]
    assert best["step"].tolist() == [200, 300, 200]
    assert best["K"].tolist() == [5, 5, 7]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_wins_and_of_replicates_the_first_counts(bad: float) -> None:
    runs = made(
        run("a", {"valid_ppl": [bad, 1.7, bad], "test_ppl": [1.0, 1.8, 1.0]}),
        run("b", {"valid_ppl": [bad, bad], "test_ppl": [1.0, 1.0]}),
    )
    best = best_validation(pd.concat([runs, runs.assign(replicate=1, value=0.5)]))
    columns = ["experiment_id", "valid", "test", "epoch"]
    assert best[columns].to_numpy().tolist() == [["a", 1.7, 1.8, 1.0]]
    assert math.isnan(best["K"][0])  # none is logged


def test_the_metric_is_the_first_that_a_run_logs_of_perplexity_loss_and_nll() -> None:
    point = {"valid_nll": [-4.0, -5.0], "test_nll": [-3.0, -3.5], "test_event_error": [0.25, 1]}
    frame = made(
        run("a", {"valid_loss": [-4.0, -5.0], "test_loss": [-3.0, -3.5]}, dataset="linear"),
        run("b", {"valid_ppl": [2.0, 3.0], "valid_loss": [0.9, 0.1], "test_ppl": [2.5, 3.5]}),
        run("c", {"valid_event_error": [0.3, 0.5], **point}, dataset="book_order"),
    )
    assert best_validation(frame)[["metric", "valid", "test", "test_event_error"]].fillna(0).to_numpy().tolist() == [
        ["valid_loss", -5.0, -3.5, 0],
        ["valid_ppl", 2.0, 2.5, 0],
        ["valid_nll", -5.0, -3.5, 1],
    ]
    assert best_validation(frame, "valid_loss")["valid"].tolist() == [-5.0, 0.1]
    assert best_validation(frame, "valid_event_error")[["valid", "test"]].to_numpy().tolist() == [[0.3, 0.25]]


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(AnalysisError) as error:
        best_validation(fixed_and_adaptive(), "valid_pl")
    assert str(error.value) == "metric (=valid_pl) must be one of valid_ppl; did you mean valid_ppl?"
    with pytest.raises(AnalysisError, match="no validation metric"):
        best_validation(fixed_and_adaptive().query("metric == 'K'"))


def test_policy_labels_show_the_key_parameter_even_if_it_is_the_same_in_all_runs() -> None:
    frame = options(
        truncation=["fixed", "fixed", "adaptive", "adaptive", "mine", "mine"],
        truncation__K=[5, 5, None, None, None, None],
        truncation__delta=[None, None, 0.9, 0.5, None, None],
        truncation__K_init=[None, None, 15, 30, None, None],
        truncation__K_max=[None, None, 100, 100, 3, 3],
        truncation__rule=[None, None, None, None, "a", "b"],
    )
    assert policies(frame).tolist() == [
        "fixed K=5",
        "fixed K=5",
        "adaptive delta=0.9 K_init=15",
        "adaptive delta=0.5 K_init=30",
        "mine rule=a",
        "mine rule=b",
    ]
    assert policies(options(lr=[1.0])).tolist() == ["unknown"]


def test_the_seed_of_a_policy_is_the_runs_own_and_named_once() -> None:
    frame = options(
        truncation=["variable", "variable", "randomized"],
        truncation__base=[70, 70, None],
        truncation__length=[None, None, 50.0],
        truncation__seed=[0, 1, 0],
        seed=[0, 1, 0],
    )
    assert labels(frame).tolist() == [
        "variable base=70, seed=0",
        "variable base=70, seed=1",
        "randomized length=50, seed=0",
    ]
    frame["seed"] = 0
    assert policies(frame).tolist() == ["variable base=70 seed=0", "variable base=70 seed=1", "randomized length=50"]


def test_settings_are_the_options_that_tell_runs_apart() -> None:
    frame = options(
        lr=[1.0, 10.0, 1.0, 10.0],
        clip_norm=[1.0, 1.0, 1.0, 1.0],
        seed=[0, 0, 0, 1],
        init=[0, 1, 2, 3],
        epochs=[1.0, 2.0, 3.0, 4.0],
        seconds=[None, 1.0, 2.0, 3.0],
        output_dir=["a", "b", "c", "d"],
        device=["cpu", "cuda", "cpu", "cpu"],
        device__threads=[1, 2, 3, 4],
        monitor=["loss", "ppl", "ppl", "ppl"],
        truncation=["fixed", "fixed", "adaptive", "adaptive"],
        truncation__K=[5, 5, None, None],
        probe__window=[None, None, 100, 100],  # only where there are probes: the policy says so
        model=["lstm", "lstm", "gru", "gru"],
        model__hidden=[50, 50, 64, 64],  # goes with the model
        model__layers=[1, 2, 1, 1],  # differs between runs of one model
    )
    assert settings(frame) == ["lr", "seed", "model", "model.layers"]


def test_an_option_set_in_some_runs_of_a_policy_counts() -> None:
    frame = options(truncation=["fixed", "fixed"], clip_norm=[None, 1.0])
    assert settings(frame) == ["clip_norm"]
    assert labels(frame).tolist() == ["fixed, clip_norm=-", "fixed, clip_norm=1"]


def test_values_as_text_and_their_natural_order() -> None:
    values = [5, 10.0, 0.9, 1e-5, 1 / 3, None, np.float64("nan")]
    assert [format_value(value) for value in values] == ["5", "10", "0.9", "1e-05", repr(1 / 3), "-", "-"]
    names = ["fixed K=10", "fixed K=5", "adaptive delta=0.9", "adaptive delta=0.5", "fixed K=5, lr=1e-05"]
    assert sorted(names, key=natural) == [names[place] for place in (3, 2, 1, 4, 0)]


def test_summary_keeps_settings_apart_whose_option_is_null() -> None:
    runs = [("a", 1.5, None, 0), ("b", 1.4, 1.0, 0), ("c", 1.6, None, 1)]
    frames = (run(name, {"valid_ppl": [value]}, clip_norm=clip, init=init) for name, value, clip, init in runs)
    summary = summarize(made(*frames))
    assert summary["runs"].tolist() == [1, 2]
    assert summary["valid_mean"].tolist() == pytest.approx([1.4, 1.55])


def test_comparable_runs_are_of_one_experiment_dataset_and_metric() -> None:
    frame = made(
        run("a", {"valid_ppl": [1.5], "K": [5], "train_loss": [1.0]}, name="demo"),
        run("b", {"valid_ppl": [math.inf]}, init=1, name="demo"),
        run("c", {"valid_loss": [1.5]}, dataset="linear", name="linear"),
        run("d", {"valid_ppl": [1.5]}, name=None, dataset=None),
    )
    groups = list(comparable(frame))
    assert [(group[:3], group.name) for group in groups] == [
        (("demo", "copy", "valid_ppl"), "demo_copy_ppl"),
        (("linear", "linear", "valid_loss"), "linear_loss"),
        (("unknown", "unknown", "valid_ppl"), "unknown_ppl"),
    ]
    assert groups[0].runs[["experiment_id", "metric"]].to_numpy().tolist() == [["a", "valid_ppl"], ["a", "K"]]
    with pytest.raises(AnalysisError, match="no finite validation loss in any of 1 runs"):
        next(comparable(frame.query("experiment_id == 'b'")))


def test_text_columns_may_be_categories() -> None:
    frame = fixed_and_adaptive()
    categories = frame.astype(dict.fromkeys(("metric", "dataset", "truncation"), "category"))
    pd.testing.assert_frame_equal(summarize(categories), summarize(frame), check_dtype=False)
    assert not any(isinstance(kind, pd.CategoricalDtype) for kind in options_of(categories).dtypes)
    assert labels(options_of(categories)).tolist() == labels(options_of(frame)).tolist()
    assert [group[:3] for group in comparable(categories)] == [("unknown", "copy", "valid_ppl")]
