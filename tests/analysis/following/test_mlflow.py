"""MLflow with a database file, in which a follower that begins anew finds what it has sent."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.following import connect
from analysis.following.runs import Evaluation, Run
from atbptt.errors import ConfigError

mlflow = pytest.importorskip("mlflow", reason='needs the extra "mlflow": make test-extras')
pytestmark = pytest.mark.extras
PPL = "evaluation/valid_ppl"


def run(*losses: float, state: str = "running", **changed: object) -> Run:
    found = tuple(Evaluation(10 * n, n / 2, {PPL: loss, "time/epoch": float(n)}) for n, loss in enumerate(losses))
    return replace(Run("0a1b", "demo", "K=2", {"lr": 0.5, "epochs": 2}, "", (), state, "", found), **changed)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database: to make its tables takes many times longer than a test."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/store.db"


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def record(uri: str, request: pytest.FixtureRequest) -> Callable[..., int]:
    """Records a run with a new process's knowledge, in an experiment of the test."""
    return lambda one: connect("mlflow", uri, Path()).record(replace(one, experiment=request.node.name))


@pytest.fixture
def stored(uri: str, request: pytest.FixtureRequest) -> Callable[[], list[tuple[Any, dict[int, float]]]]:
    """MLflow's runs in that experiment, the first begun first, each with its perplexities by step."""

    def read() -> list[tuple[Any, dict[int, float]]]:
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(request.node.name)
        runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
        histories = [client.get_metric_history(each.info.run_id, PPL) for each in runs]
        assert all(len({point.step for point in points}) == len(points) for points in histories)
        return [(each, {p.step: p.value for p in ps}) for each, ps in zip(runs, histories, strict=True)]

    return read


def test_a_run_is_found_again_and_gets_what_is_new(record: Callable[..., int], stored: Callable[[], Any]) -> None:
    assert record(run(3.0, math.inf)) == 2
    assert record(run(3.0, math.inf)) == 0
    assert record(run(3.0, state="failed", why="killed")) == 0  # a resume has dropped one
    assert record(run(3.0, math.inf, math.nan)) == 1
    options = {"lr": 0.5, "epochs": 4, "new": "x" * 7000}
    done = run(3.0, math.inf, math.nan, 1.0, state="finished", options=options, notes="why", tags=("a", "b"))
    assert record(done) == 1
    ((found, points),) = stored()
    assert str(points) == "{0: 3.0, 10: 1.7976931348623157e+308, 20: nan, 30: 1.0}"
    assert (found.info.run_name, found.info.status) == ("K=2", "FINISHED")
    assert found.info.end_time - found.info.start_time == 1500  # of training
    assert found.data.params == {"lr": "0.5", "epochs": "2", "new": "x" * 6000}
    tags = {"experiment_id": "0a1b", "state": "finished", "changed.epochs": "4", "mlflow.note.content": "why"}
    assert (tags | {"tags": "a, b", "why": ""}).items() <= found.data.tags.items()


def test_other_values_begin_another_run(record: Callable[..., int], stored: Callable[[], Any]) -> None:
    record(run(3.0, 2.0))
    assert record(run(3.0, 2.5)) == 2
    assert record(run(3.0, 2.5, 1.0, state="diverged", why="not finite")) == 1
    (first, old), (second, new) = stored()
    assert (first.info.run_name, old) == ("K=2", {0: 3.0, 10: 2.0})
    assert (second.info.run_name, new) == ("K=2 (2)", {0: 3.0, 10: 2.5, 20: 1.0})
    assert (first.info.status, second.info.status) == ("KILLED", "FAILED")
    assert (second.data.tags["state"], second.data.tags["why"]) == ("diverged", "not finite")


def test_more_evaluations_than_a_request_may_have(record: Callable[..., int], stored: Callable[[], Any]) -> None:
    losses = [1 / n for n in range(1, 1001)]
    assert record(run(*losses, options={f"option{n}": n for n in range(150)})) == 1000
    ((found, points),) = stored()
    assert [*points.values()] == losses
    assert len(found.data.params) == 150


def test_an_address_that_mlflow_does_not_know() -> None:
    with pytest.raises(ConfigError, match=r"^into \(=sqlit:///x\) is no tracking URI of MLflow: "):
        connect("mlflow", "sqlit:///x", Path())


def test_a_server_out_of_reach_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        connect("mlflow", "http://127.0.0.1:9", Path()).record(run(1.0))
