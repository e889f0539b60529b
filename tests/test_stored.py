import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from atbptt.errors import AnalysisError, ConfigError
from atbptt.runs import schema
from atbptt.stored import load
from atbptt.training.evaluation import evaluate
from atbptt.training.stored_model import open_stored_model
from tests.helpers.training import ADAPTIVE, train


def test_the_best_model_is_the_one_of_the_best_validation(tmp_path: Path) -> None:
    directory = train(tmp_path, *ADAPTIVE)
    found = {which: load(directory, which) for which in ("last", "best")}
    assert {which: each.epoch for which, each in found.items()} == {"last": 2.0, "best": 1.0}
    assert open_stored_model(directory / schema.BEST).step == found["best"].step == 60
    assert sorted(path.name for path in directory.glob("best*")) == [schema.BEST]
    rows = pq.read_table(directory / schema.METRICS).to_pylist()
    logged = {row["epoch"]: row["value"] for row in rows if row["metric"] == "valid_loss"}
    for each in found.values():
        assert evaluate(each.model, each.task, each.task.valid)["loss"] == pytest.approx(logged[each.epoch], rel=1e-5)
    with pytest.raises(ConfigError, match=r"^which \(=bets\) must be one of last, best; did you mean best\?"):
        load(directory, "bets")
    with pytest.raises(AnalysisError, match=r"checkpoint\.pt: must be a run's directory"):
        load(directory / schema.CHECKPOINT, "best")
    (directory / schema.BEST).unlink()
    with pytest.raises(AnalysisError, match=r"the run has stored no best.pt$"):
        load(directory, "best")


def test_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "atbptt.training", None)
    with pytest.raises(ConfigError, match=r"^load needs the packages of experiments: pip install '.\[experiments\]'"):
        load(tmp_path)
