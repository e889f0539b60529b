"""Runs in an MLflow tracking store: a server, or a database file. What it has of a run stands in tags there."""

import json
import logging
import math
import os
import sys
from dataclasses import asdict, dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from atbptt.errors import ConfigError, described
from atbptt.runs import STALE, WAITING
from atbptt.runs.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING

from ..loading import ID
from .runs import Evaluation, Run, Sent

STATES = {FINISHED: "FINISHED", FAILED: "FAILED", DIVERGED: "FAILED", INTERRUPTED: "KILLED", STALE: "KILLED"}
STATES |= {RUNNING: "RUNNING", WAITING: "SCHEDULED"}
# MLflow's pages do not list tags whose name begins with its own.
SENT, SHOWN, NOTES = "mlflow.atbptt.sent", "mlflow.atbptt.shown", "mlflow.note.content"
BATCH_METRICS, BATCH_PARAMS = 900, 90  # a request may have 1,000 and 100
PARAM_LENGTH, TAG_LENGTH = 6000, 8000  # characters
# The loop tries again by itself, and other runs need not wait meanwhile. Nothing is sent anywhere else.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass
class _Record:
    """MLflow's run of one of ours."""

    run_id: str
    started: int  # ms
    sent: Sent
    shown: str = ""  # digest of options and state there
    params: dict[str, str] = field(default_factory=dict)


class MLflow:
    """Keeps an experiment for each of ours, and in it a run for each of ours, found again by its tag `experiment_id`.

    Options are params; one that has changed since is a tag `changed.<option>`, since params cannot change. Metrics have
    `step` and the training time as time stamp. MLflow has no infinity: it shows the largest number.

    Arguments:
        into: the tracking URI; None for that of the environment, or MLflow's default.

    Raises:
        ConfigError: no such kind of address.
    """

    def __init__(self, into: str | None) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            self._client = MlflowClient(tracking_uri=into)
        except MlflowException as error:
            raise ConfigError("into", f"(={into}) is no tracking URI of MLflow: {described(error)}") from error
        uri = self._client.tracking_uri
        self.shown_by = f'mlflow ui --backend-store-uri "{uri}"' if "://" in uri and "http" not in uri else uri
        self._experiments: dict[str, str] = {}  # id by name
        self._known: dict[tuple[str, str], _Record] = {}  # of runs that go on

    def record(self, run: Run) -> int:
        record = self._known.pop((run.experiment, run.id), None) or self._found(run) or self._begun(run, 1)
        attempt, new = record.sent.missing(run)
        if attempt != record.sent.attempt:
            self._client.set_terminated(record.run_id, "KILLED")
            record = self._begun(run, attempt)
        at_once = max(1, BATCH_METRICS // max((len(each.values) for each in new), default=1))
        for first in range(0, len(new), at_once):
            self._send(record, new[first : first + at_once])
        if record.shown != str(run.digest):
            self._show(record, run)
        if not run.ended:
            self._known[run.experiment, run.id] = record
        return len(new)

    def close(self) -> None:
        pass

    def _send(self, record: _Record, new: tuple[Evaluation, ...]) -> None:
        metrics = [
            Metric(tag, _limited(value), round(1000 * each.seconds), each.step)
            for each in new
            for tag, value in each.values.items()
        ]
        sent = Sent(record.sent.attempt, new[-1].step, new[-1].digest)
        self._client.log_batch(record.run_id, metrics=metrics, tags=[RunTag(SENT, json.dumps(asdict(sent)))])
        record.sent = sent

    def _show(self, record: _Record, run: Run) -> None:
        options = {name: str(value)[:PARAM_LENGTH] for name, value in run.options.items()}
        tags = {"state": run.state, "why": run.why, NOTES: run.notes, "tags": ", ".join(run.tags)}
        tags |= {f"changed.{name}": value for name, value in options.items() if record.params.get(name, value) != value}
        new = [Param(name, value) for name, value in options.items() if name not in record.params]
        for first in range(0, len(new), BATCH_PARAMS):
            self._client.log_batch(record.run_id, params=new[first : first + BATCH_PARAMS])
        record.params = {**options, **record.params}
        status, end = STATES.get(run.state, "RUNNING"), run.evaluations[-1].seconds if run.evaluations else 0.0
        if run.ended:
            self._client.set_terminated(record.run_id, status, end_time=record.started + round(1000 * end))
        else:
            self._client.update_run(record.run_id, status=status)
        tags[SHOWN] = record.shown = str(run.digest)
        self._client.log_batch(record.run_id, tags=[RunTag(name, value[:TAG_LENGTH]) for name, value in tags.items()])

    def _begun(self, run: Run, attempt: int) -> _Record:
        title = run.title if attempt == 1 else f"{run.title} ({attempt})"
        tags = {ID: run.id, SENT: json.dumps(asdict(Sent(attempt)))}
        made = self._client.create_run(self._experiment(run.experiment), tags=tags, run_name=title)
        return _Record(made.info.run_id, made.info.start_time, Sent(attempt))

    def _found(self, run: Run) -> _Record | None:
        asked = f"tags.`{ID}` = '{run.id}'"
        found = self._client.search_runs([self._experiment(run.experiment)], asked)
        records = [
            _Record(
                each.info.run_id,
                each.info.start_time,
                Sent(**json.loads(each.data.tags[SENT])),
                each.data.tags.get(SHOWN, ""),
                dict(each.data.params),
            )
            for each in found
            if SENT in each.data.tags  # a user may have others
        ]
        return max(records, key=lambda record: record.sent.attempt, default=None)

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            self._experiments[name] = found.experiment_id if found else self._client.create_experiment(name)
        return self._experiments[name]


def _limited(value: float) -> float:
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value
