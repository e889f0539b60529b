import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import RunsWarning, load_status
from atbptt.runs import schema
from tests.conftest import Hold
from tests.helpers.made import write_status


def test_load_status_has_a_column_for_what_is_observed(sweep_of_states: Path) -> None:
    with pytest.warns(RunsWarning, match=r"status.json: .*; state unknown"):
        frame = load_status(sweep_of_states).set_index("experiment_id")
    states = ["finished", "failed", "running", "stale", "interrupted", "waiting", "?"]
    assert frame["state"].fillna("?").to_dict() == dict(zip("abcdefg", states, strict=True))
    assert frame.loc["b", "error"] == "ValueError: no"
    assert frame.loc["d", "error"] == "killed at epoch 2"
    assert frame.loc["a", ["epoch", "epochs", "best", "best_epoch"]].tolist() == [4.0, 4.0, 1.25, 1.5]
    assert frame.loc["c", ["attempt", "pid", "host", "monitor"]].tolist() == [1, 4711, "node1.cluster", "valid_ppl"]
    assert frame["seconds_left"].dropna().to_dict() == {"c": 10.0}
    assert frame["directory"].tolist() == [str(sweep_of_states / "demo" / run) for run in "abcdefg"]


def test_the_types_of_load_status_do_not_depend_on_the_runs(sweep_of_states: Path) -> None:
    with pytest.warns(RunsWarning):
        types = load_status(sweep_of_states).dtypes.to_dict()
    for name in ("a", "b", "f"):
        assert load_status(sweep_of_states / "demo" / name).dtypes.to_dict() == types


@pytest.fixture
def sweep_of_states(outputs: Path, write_run: Callable[..., Path], hold: Hold) -> Path:
    """A run of each state."""
    for name in "abcdefg":
        write_run(name, {"valid_ppl": [1.5]})
    folder = outputs / "demo"
    write_status(folder / "a", schema.FINISHED)
    write_status(folder / "b", schema.FAILED, error="ValueError: no")
    hold(write_status(folder / "c", schema.RUNNING))
    write_status(folder / "d", schema.RUNNING)
    write_status(folder / "e", schema.INTERRUPTED)
    (folder / "f" / schema.STATUS).rename(folder / "f" / schema.CONFIG)
    (folder / "g" / schema.STATUS).write_text(json.dumps({"state": "dancing"}))
    return outputs
