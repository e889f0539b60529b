import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atbptt.config import Settings
from atbptt.errors import ConfigError
from atbptt.runs import Dimension, SearchRecord, Trial, best_value, read_search, schema, write_search
from atbptt.system import StorageError

SPACE = {
    "lr": Dimension(low=0.1, high=30.0, log=True),
    "model": Dimension(("lstm", "gru")),
    "truncation.K": Dimension(low=2, high=8, step=2),
}
PARAMS = {"lr": 2.0, "model": "gru", "truncation.K": 4}


def test_a_record_is_read_as_it_was_written_and_knows_its_best(tmp_path: Path) -> None:
    values = (None, 0.1 + 0.2, -1.5, -1.5)
    states = (schema.FAILED, *[schema.FINISHED] * 3)
    ended = enumerate(zip(states, values, strict=True))
    trials = [Trial(n, {**PARAMS, "lr": 1 / 3}, state, value) for n, (state, value) in ended]
    record = SearchRecord("0", "valid_ppl", ["launch.py"], 9, SPACE, trials)
    write_search(tmp_path / "new", record)
    assert read_search(tmp_path / "new") == record
    assert record.best is trials[2]
    assert SearchRecord("0", "valid_ppl", [], 9, {}, trials[:1]).best is None
    with pytest.raises(StorageError, match=r"trials.json/x cannot be made: Not a directory$"):
        write_search(tmp_path / "new" / schema.TRIALS / "x", record)


def of_trial(**entries: Any) -> dict[str, Any]:
    """A record whose only trial has these entries."""
    return {"trials": [{"number": 0, "params": PARAMS, "state": schema.FINISHED, "value": 1.0, **entries}]}


def of_param(name: str, value: object) -> dict[str, Any]:
    return of_trial(params={**PARAMS, name: value})


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, ""),
        (of_trial(reason="\ud800\n"), ""),
        (of_param("lr", 1), ""),
        (of_param("lr", 31), "trials.0.params.lr (=31) must be chosen from 0.1 to 30, log"),
        (of_param("lr", math.nan), "trials.0.params.lr (=nan) must be"),
        (of_param("lr", "2"), "trials.0.params.lr (=2) must be"),
        (of_param("lr", [1]), "trials.0.params.lr (=[1]) must be"),
        (of_param("lr", True), "trials.0.params.lr (=true) must be"),
        (of_param("truncation.K", 4.0), "trials.0.params.truncation.K (=4.0) must be chosen from 2 to 8 in steps of 2"),
        (of_param("truncation.K", 5), "trials.0.params.truncation.K (=5) must be"),
        (of_param("model", "gru,lstm"), "trials.0.params.model (=gru,lstm) must be chosen from lstm, gru"),
        (of_param("model", ["gru"]), "trials.0.params.model (=['gru']) must be"),
        (of_param("+truncation.cmd", "touch x"), "+truncation.cmd) must be those of the space: lr, model, trunc"),
        (of_trial(params={}), "trials.0.params (=) must be those of the space"),
        (of_trial(params="x"), "trials.0.params (=x) must be a valid dictionary"),
        (of_trial(number=10**30), "trials.0.number (=1000000000000000000000000000000) must be the trial's place"),
        (of_trial(state="running"), "trials.0.state (=running) must be one of waiting, finished, failed"),
        (of_trial(value=math.inf), "trials.0.value (=inf) must be a finite number in a trial that is finished"),
        (of_trial(value=10**400), "trials.0.value"),
        (of_trial(value=None), "trials.0.value (=null) must be a finite number"),
        (of_trial(state="failed"), "trials.0.value (=1.0) must be null in a trial that is failed"),
        (of_trial(runs=["a\0b"]), r"trials.0.runs (=a\x00b) must be text without control characters"),
        (of_trial(runs=["\ud800"]), r"trials.0.runs (=\ud800) must be text"),
        ({"metric": "\ud800"}, r"metric (=\ud800) must be text"),
        ({"space": {"\x1b[2J": {"choices": ["x"]}}}, r"space (=\x1b[2J) must be text"),
        ({"space": {"lr": {}}}, "space.lr (=0 to 0) must be an interval from a lower to a higher number"),
        ({"space": {"lr": {"low": 0, "high": 1, "log": True}}}, "space.lr (=0 to 1) must be above 0 for the tag log"),
        ({"space": {"lr": {"low": 1, "high": 10**400}}}, "(401 characters)) must be between -1e+100 and 1e+100"),
        ({"space": {"lr": {"low": 1, "high": 3, "step": 0}}}, "space.lr.step (=0) must be above 0"),
        ({"space": {"lr": 3}}, "space.lr (=3) must be"),
        ({"trials": None}, "trials (=null) must be a valid list"),
    ],
)
def test_a_record_with_a_value_that_no_search_writes_is_refused(
    tmp_path: Path, entries: dict[str, Any], words: str
) -> None:
    write_search(tmp_path, SearchRecord("0", "valid_ppl", ["launch.py"], 9, SPACE))
    stored = json.loads((tmp_path / schema.TRIALS).read_text())
    (tmp_path / schema.TRIALS).write_text(json.dumps({**stored, **entries}))
    if not words:
        assert all(trial.reason in (None, r"\ud800") for trial in read_search(tmp_path).trials)
        return
    with pytest.raises(ConfigError) as refused:
        read_search(tmp_path)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("epochs", "seconds", "patience", "best"),
    [
        (9, None, None, -3.0),
        (2, None, None, -2.0),
        (1, None, None, 3.0),
        (9, 20, None, -2.0),
        (9, None, 1, -2.0),
        (9, None, 2, -3.0),
    ],
)
def test_the_best_value_is_the_lowest_finite_one_within_the_budget(
    settings: Callable[..., Settings],
    tmp_path: Path,
    epochs: float,
    seconds: float | None,
    patience: float | None,
    best: float,
) -> None:
    rows = {"valid_ppl": (math.nan, 3.0, -2.0, -math.inf, -3.0), "valid_loss": (-5.0,), "valid_nll": (math.inf,)}
    columns = [
        {"metric": metric, "value": value, "step": 60 * epoch, "epoch": float(epoch), "train_seconds": 10.0 * epoch}
        for metric, values in rows.items()
        for epoch, value in enumerate(values)
    ]
    pq.write_table(pa.Table.from_pylist(columns), tmp_path / schema.METRICS)
    asked = settings().model_copy(update={"epochs": epochs, "seconds": seconds, "patience": patience})
    found = [best_value(tmp_path, metric, asked) for metric in (*rows, "valid_none")]
    assert found == [best, -5.0, None, None]
