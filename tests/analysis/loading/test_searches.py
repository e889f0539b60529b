"""Searches: the frame of their trials, their section of the report, their figure."""

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from analysis import Results, RunsWarning, load, load_trials
from analysis.figures import NoDataError, draw, trials
from analysis.report import render
from atbptt.runs import Dimension, SearchRecord, Trial, schema, write_search
from tests.helpers.loading import IDS

SPACE = {"lr": Dimension(low=0.1, high=30.0, log=True), "model": Dimension(("lstm", "gru"))}


def write(output: Path, name: str, *trials: Trial) -> Path:
    record = SearchRecord("0", "valid_ppl", ["launch.py"], 5, SPACE, list(trials))
    write_search(output / schema.SWEEPS / name, record)
    return output / schema.SWEEPS / name


@pytest.fixture
def searched(sweep: Path) -> Path:
    """A search whose first trial has two runs, and whose others failed before and after their run began, or wait."""
    runs = [os.path.join("..", "..", "demo", run) for run in IDS]
    write(
        sweep,
        "mine",
        Trial(0, {"lr": 2.0, "model": "gru"}, schema.FINISHED, 1.3, None, runs[:2]),
        Trial(1, {"lr": 20.0, "model": "lstm"}, schema.FAILED, None, "lr (=20) is bad"),
        Trial(2, {"lr": 9.0, "model": "gru"}, schema.FAILED, None, "DivergedError: no", runs[2:]),
        Trial(3, {"lr": 3.0, "model": "gru"}),
    )
    write(sweep, "others", Trial(0, {"lr": 1.0, "model": "gru"}, schema.FINISHED, 1.0, None, ["../../elsewhere/0"]))
    return sweep


def test_trials_are_joined_with_their_runs(searched: Path) -> None:
    frame = load_trials(searched)
    assert frame["trial"].tolist() == [0, 0, 1, 2, 3]
    assert frame["experiment_id"].fillna("").tolist() == [*IDS[:2], "", IDS[2], ""]
    assert frame["value"].round(3).tolist()[:2] == [1.3, 1.3]
    assert (frame["search"].unique().tolist(), frame["model"].tolist()[1:3]) == (["mine"], ["gru", "lstm"])
    assert set(load(searched).merge(frame, on="experiment_id")["trial"]) == {0, 2}
    assert load_trials(searched / "demo" / IDS[0])["experiment_id"].notna().sum() == 1
    (searched / schema.SWEEPS / "mine" / schema.TRIALS).write_text("{}")
    with pytest.warns(RunsWarning, match=r"mine/trials.json: .*; search left out"):
        assert load_trials(searched).empty


def test_the_report_links_trials_to_their_runs(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw", "compared_tables"):
        monkeypatch.setattr(f"analysis.report.page.{name}", lambda *_: [])
    page = render(Results(searched), datetime.now(UTC))
    assert '<a href="#search">Search <span class="number">4</span></a>' in page
    assert "3 of 5 trials, 2 failed; the best is trial 0 with valid PPL 1.3000" in page
    for run in IDS:
        assert f'<a href="#run-{run}">{run}</a>' in page
        assert f'<tr id="run-{run}"' in page
    assert "failed: lr (=20) is bad" in page
    (searched / schema.SWEEPS / "mine" / schema.TRIALS).unlink()
    assert 'id="search"' not in render(Results(searched), datetime.now(UTC))


def test_the_figure_has_a_panel_for_each_option(searched: Path) -> None:
    results = Results(searched)
    assert "trials_mine" in [drawing.name for drawing in draw(results)]
    figure = trials(results.searches[0], "mine")
    order, by_lr, by_model = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["trial", "lr", "model"]
    assert (by_lr.get_xscale(), by_model.get_xscale()) == ("log", "linear")
    assert by_lr.get_xlim()[0] < 0.1 < 30 < by_lr.get_xlim()[1]
    assert [label.get_text() for label in by_model.get_xticklabels()] == ["gru", "lstm"]
    finished, _, failed = order.collections
    np.testing.assert_allclose(finished.get_offsets(), [[0, 1.3]])
    assert [x for x, _ in failed.get_offsets()] == [1, 2]
    for trial in results.searches[0].record.trials:
        trial.value = None
    with pytest.raises(NoDataError, match="no trial has finished"):
        trials(results.searches[0], "mine")
