import math

import pandas as pd
import pytest

from analysis import AnalysisError, labels, summarize
from analysis.statistics.options import options_of
from analysis.statistics.summary import comparable, standing
from tests.helpers.made_runs import fixed_and_adaptive, run, sweep as made


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
    assert [(tuple(group.keys.values()), group.name) for group in groups] == [
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
    assert [tuple(group.keys.values()) for group in comparable(categories)] == [("unknown", "copy", "valid_ppl")]


def swept(*settings: tuple[float, list[list[float]]]) -> pd.DataFrame:
    """Runs of one policy: the validation values of each init by learning rate."""
    return made(
        *(run(f"{lr}-{i}", {"valid_loss": v}, lr=lr, init=i) for lr, each in settings for i, v in enumerate(each))
    )


def test_only_runs_that_finished_and_did_not_diverge_make_a_mean() -> None:
    frame = made(
        run("a", {"valid_loss": [3, 2, 1]}, epochs=2.0),
        run("b", {"valid_loss": [3, 0.5]}, epochs=2.0, init=1),  # failed at epoch 1
        run("c", {"valid_loss": [3, 0.1, 4]}, epochs=2.0, init=2),  # diverged
        run("d", {"valid_loss": [3, 0.2]}, epochs=2.0, truncation__K=9),
        run("e", {"valid_loss": [3, 1.5, 1.5]}, epochs=2.0, truncation__K=7),
    )
    summary = summarize(frame)
    columns = ["policy", "runs", "of", "ending", "valid_mean"]
    assert summary[columns].to_numpy().tolist() == [
        ["fixed K=5", 1, 3, "complete", 1.0],
        ["fixed K=7", 1, 1, "complete", 1.5],
        ["fixed K=9", 1, 1, "unfinished", 0.2],  # never before those that finished
    ]
    assert standing(frame)["experiment_id"].tolist() == ["a", "e"]


def test_budgets_that_differ_are_settings() -> None:
    frame = made(*(run(f"{n}", {"valid_loss": [3.0] + [2.0 - n] * n}, epochs=float(n)) for n in (1, 2)))
    assert summarize(frame)[["epochs", "runs"]].to_numpy().tolist() == [[2, 1], [1, 1]]


def test_a_policy_stands_at_its_best_option_with_how_many_were_tried() -> None:
    frame = swept((1.0, [[9, 3], [9, 4]]), (3.0, [[9, 2], [9, 3]]), (10.0, [[9, 2.9], [9, 3]]))
    best, *_ = rows = summarize(frame).to_dict("records")
    assert [row["chosen"] for row in rows] == [True, False, False]
    assert (best["lr"], best["tried"], best["edge"]) == (3.0, 3, "")
    best = summarize(swept((1.0, [[9, 3]]), (3.0, [[9, 2]]))).iloc[0]
    assert (best["lr"], best["tried"], best["edge"]) == (3.0, 2, "lr")
    # A setting some of whose runs diverged is not chosen where there is another.
    frame = swept((1.0, [[9, 3], [9, 4]]), (3.0, [[9, 2], [9, 10]]))
    assert summarize(frame)[["lr", "chosen", "of"]].to_numpy().tolist() == [[3, False, 2], [1, True, 2]]
    assert standing(frame)["experiment_id"].tolist() == ["1.0-0", "1.0-1"]
