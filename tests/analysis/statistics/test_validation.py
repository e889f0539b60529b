import math
from pathlib import Path

import pandas as pd
import pytest

from analysis import AnalysisError, best_validation, load
from tests.helpers.made_runs import fixed_and_adaptive, run, sweep as made


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
