"""The model of a run as its checkpoint has it, with its data: reads, locks and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from atbptt.config import Settings, validated
from atbptt.datasets import Task
from atbptt.errors import described
from atbptt.runs import WAITING, CheckpointError, DamagedError, read_checkpoint, read_run, read_status, schema
from atbptt.training.experiment import build
from atbptt.windows import Cursor

NAMES = (schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT)
IN_PYTHON = "of a model that was trained elsewhere, atbptt.probe(model, loss, inputs, targets) tells the same in Python"


class StoredModelError(ValueError):
    """A checkpoint that no model can be made of, in one line."""


@dataclass(frozen=True)
class StoredModel:
    """A run's model at its checkpoint.

    Attributes:
        checkpoint: the file that was read.
        experiment_id: of the run.
        state: of the run, as `atbptt.runs.status` has it; None where nothing is stored.
        settings: the run's config.
        task, model: on the CPU, the model with the checkpoint's parameters.
        K: the truncation length in use (steps), at most the training stream's.
        step: training steps of the stream so far.
        remarks: what a reader should know, a line each.
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


def open_stored_model(path: Path) -> StoredModel:
    """Make the model of a run as its checkpoint has it; the run may still be running.

    A checkpoint may hold a user's own objects, and the config names classes: open only what you trust.

    Arguments:
        path: a run's directory, or a checkpoint in it.

    Raises:
        StoredModelError: there is no checkpoint of a run, or it cannot be read.
        ConfigError: the run's config breaks a rule, as where its data are not there any more.
    """
    checkpoint, saved, remarks = _read(path)
    directory = checkpoint.parent
    settings = _settings(directory)
    parts = build(settings)
    stored_id = read_status(directory).get("experiment_id")
    if stored_id not in (None, settings.experiment_id):
        if "path" in settings.component("dataset").arguments:
            where = settings.component("dataset").arguments["path"]
            raise StoredModelError(f"dataset.path (={where}) holds other data than the run {stored_id} was trained on")
        remarks.append(f"{directory / schema.CONFIG} is not the config that the run {stored_id} began with")
    try:
        parts.model.load_state_dict(saved["model"])
        parts.policy.load_state_dict(saved["policy"])
        cursor = Cursor(settings.scheme, parts.policy, parts.task.train.length)
        cursor.restore(saved)
    except (RuntimeError, KeyError, TypeError) as error:
        problem = f"does not fit the model of {directory / schema.CONFIG}, whose class may have changed"
        raise StoredModelError(f"{checkpoint} {problem}: {described(error)[:300]}") from error
    state = read_run(directory).state
    return StoredModel(
        checkpoint,
        str(stored_id or settings.experiment_id),
        None if state == WAITING else state,
        settings,
        parts.task,
        parts.model,
        cursor.K,
        cursor.step,
        tuple(remarks),
    )


def _read(path: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The checkpoint's file and content, and remarks; of a directory, the last checkpoint that is whole."""
    if not path.is_dir():
        path = path.resolve() if path.is_symlink() else path  # the run's other files are where it leads to
        try:
            return path, _content(path), []
        except DamagedError as error:
            if path.name not in NAMES or not (path.parent / schema.CONFIG).exists():
                raise StoredModelError(f"{path}: is no checkpoint of a run; {IN_PYTHON}") from error
            raise StoredModelError(f"{error}{_other(path)}") from error
    remarks: list[str] = []
    for name in NAMES:
        if (path / name).exists():
            try:
                return path / name, _content(path / name), remarks
            except DamagedError as error:
                remarks.append(f"{error} and left out")
    if remarks:
        raise StoredModelError(f"{path}: its checkpoints are damaged")
    if (path / schema.CONFIG).exists():
        raise StoredModelError(f"{path}: the run has stored no checkpoint yet")
    raise StoredModelError(f"{path}: is no run's directory, which has a {schema.CHECKPOINT}")


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_checkpoint(path)
    except DamagedError:
        raise
    except CheckpointError as error:
        raise StoredModelError(str(error)) from error
    except OSError as error:
        raise StoredModelError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a user's own object, whose class is gone say
        raise StoredModelError(f"{path} cannot be loaded: {described(error)[:300]}") from error
    if not (path.parent / schema.CONFIG).exists():
        raise StoredModelError(f"{path}: has no {schema.CONFIG} beside it, which says of what model and data it is")
    return content


def _other(path: Path) -> str:
    previous = path.with_name(schema.PREVIOUS_CHECKPOINT)
    return f"; {previous.name} is the one before" if previous != path and previous.exists() else ""


def _settings(directory: Path) -> Settings:
    path = directory / schema.CONFIG
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # of omegaconf, of YAML, of the file system
        raise StoredModelError(f"{path} cannot be read: {described(error)[:300]}") from error
    if not isinstance(config, dict):
        raise StoredModelError(f"{path} holds no config")
    return validated({str(key): value for key, value in config.items()})
