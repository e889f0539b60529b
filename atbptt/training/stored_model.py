"""The model of a run at its checkpoint, with its data. The run is only read: not locked, not changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from atbptt.config import Settings, validated
from atbptt.datasets import Task
from atbptt.errors import AnalysisError, described, require_whole
from atbptt.runs import (
    WAITING,
    CheckpointError,
    DamagedError,
    check_id,
    read_checkpoint,
    read_run,
    read_status,
    reason,
    schema,
)
from atbptt.system import open_file, read_yaml
from atbptt.training.checks import read_pass
from atbptt.training.experiment import build
from atbptt.training.trust import Trust
from atbptt.windows import Cursor

NO_TRUST = Trust()
WHICH = {"last": (schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT), "best": (schema.BEST, schema.PREVIOUS_BEST)}
ELSEWHERE = "for a model trained elsewhere, use atbptt.probe(model, loss, inputs, targets) in Python"


@dataclass(frozen=True)
class StoredModel:
    """A run's model at a checkpoint.

    Attributes:
        checkpoint: the file that was read.
        experiment_id: of the run.
        state: of the run, as in `atbptt.runs.RunStatus`; None where none is stored.
        settings: the run's config.
        task, model: on the CPU, the model with the checkpoint's parameters, the training stream that of its pass.
        K: the truncation length in use (steps), at most the length of the training stream.
        step: training steps of the stream so far.
        remarks: warnings, a line each.
    """

    checkpoint: Path
    experiment_id: str
    state: str | None
    settings: Settings
    task: Task
    model: nn.Module
    K: int
    step: int
    remarks: tuple[str, ...]

    @property
    def epoch(self) -> float:
        """Passes over the training stream so far."""
        return self.step / self.task.train.length


def open_stored_model(path: Path, trust: Trust = NO_TRUST, which: str = "last") -> StoredModel:
    """Make the model of a run as it is in its checkpoint; the run may still be running.

    Nothing that the run's files name is run, but for what `trust` allows.

    Arguments:
        path: a run's directory, or a checkpoint in it. In a directory, the previous checkpoint is read where the last
            one is damaged.
        which: in a directory, the `last` checkpoint or that of the `best` validation.
        trust: which classes the config may name besides those of atbptt and torch's optimizers.

    Raises:
        AnalysisError: there is no checkpoint of a run, it cannot be read, or a class is not trusted.
        ConfigError: the run's config breaks a rule; for example, its data are gone.
    """
    checkpoint, saved, remarks = _read(path, WHICH[which])
    config = checkpoint.parent / schema.CONFIG
    settings = _settings(config, trust)
    parts = build(settings)
    experiment_id = read_status(config.parent).get(schema.ID) or settings.experiment_id
    try:
        check_id(checkpoint, saved, experiment_id)
    except CheckpointError as error:
        raise AnalysisError(str(error)) from error
    changes = []
    if experiment_id != settings.experiment_id:
        changes = _changes(settings, config, experiment_id)
    try:
        parts.model.load_state_dict(saved["model"])
        parts.policy.load_state_dict(saved["policy"])
        cursor = Cursor(settings.scheme, parts.policy, parts.task.train.length)
        cursor.restore(saved, None)
        require_whole("K", parts.policy.K, 1)
    except (Exception, SystemExit) as error:  # what is stored may be anything, also for a user's own class
        problem = "; ".join([f"does not fit the model of {config}, whose class may have changed", *changes])
        raise AnalysisError(f"{checkpoint} {problem}: {described(error)[:300]}") from error
    read_pass(parts.task, cursor.pass_read, settings.seed)
    state = read_run(config.parent).state
    return StoredModel(
        checkpoint,
        experiment_id,
        None if state == WAITING else state,
        settings,
        parts.task,
        parts.model,
        cursor.K,
        cursor.step,
        (*remarks, *changes),
    )


def _changes(settings: Settings, config: Path, experiment_id: str) -> list[str]:
    """Remarks on what is not as when the run began; an AnalysisError if the data are not."""
    run = f"the run {experiment_id}"
    stored = _hashes(config.parent / schema.OPTIONS)
    if not stored and settings.sources():
        return [f"{run} stored no code, as in earlier versions of atbptt: your classes may have changed since"]
    remarks = []
    for name, rule in settings.changes(stored).items():
        if name.endswith(".path"):
            raise AnalysisError(f"{name} {rule} than {run} was trained on")
        remarks.append(f"{name} {rule} than {run}, a copy of whose code is in {config.parent / schema.SOURCE}")
    return remarks or [f"{config} is not the config that {run} began with"]


def _hashes(options: Path) -> dict[str, str]:
    """What `Settings.hashes` was when the run began; nothing in runs of earlier versions."""
    try:
        with open_file(options) as file:
            stored = json.loads(pq.read_metadata(file).metadata[schema.OPTIONS_JSON])
        return {name: value for name, value in stored.items() if name.endswith((".code_hash", ".data_hash"))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException):
        return {}


def _read(path: Path, names: Sequence[str]) -> tuple[Path, dict[str, Any], list[str]]:
    """A checkpoint, its content, and a remark on each that was left out; in a directory, the last that is whole."""
    if path.is_dir():
        candidates = [path / name for name in names if (path / name).exists()]
        if not candidates and (path / schema.CHECKPOINT).exists():
            raise AnalysisError(f"{path}: the run has stored no {names[0]}")
        if not candidates and (path / schema.CONFIG).exists():
            raise AnalysisError(f"{path}: the run has stored no checkpoint yet")
        if not candidates:
            raise AnalysisError(f"{path}: is no run's directory, which has a {schema.CHECKPOINT}")
    else:  # the run's other files are beside the target of a link
        candidates = [path.resolve() if path.is_symlink() else path]
    remarks: list[str] = []
    for candidate in candidates:
        try:
            return candidate, _content(candidate), remarks
        except DamagedError as error:
            remarks.append(f"{error} and left out")
    if path.is_dir():
        raise AnalysisError(f"{path}: its checkpoints are damaged")
    if any(candidates[0].name in names for names in WHICH.values()):
        raise AnalysisError(f"{candidates[0]} is damaged; give the run's directory to read another")
    raise AnalysisError(f"{candidates[0]}: is no checkpoint of a run; {ELSEWHERE}")


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_checkpoint(path)
    except DamagedError:
        raise
    except CheckpointError as error:
        raise AnalysisError(str(error)) from error
    except OSError as error:
        raise AnalysisError(f"{path} cannot be read: {error.strerror}") from error
    if not (path.parent / schema.CONFIG).exists():
        raise AnalysisError(f"{path}: has no {schema.CONFIG} beside it, which describes its model and data")
    return content


def _settings(path: Path, trust: Trust) -> Settings:
    try:
        _, values = read_yaml(path)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path} cannot be read: {reason(error)}") from error
    given = {str(key): value for key, value in values.items()}
    trust.check(given, path)
    return validated(given)
