"""Checks before the first step: whether the parts of a run follow their protocols and fit together."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from atbptt import models
from atbptt.datasets import SPLITS, Predicting, Task
from atbptt.errors import ConfigError, described, did_you_mean, listed, require
from atbptt.probes import ProbeSettings
from atbptt.truncation import Policy
from atbptt.windows import Stream, check_asked

GROUPS = {"estimator": "truncation", "confidence": "truncation", "resamples": "probe"}  # of options in `check_asked`


def check_task(task: Task) -> None:
    kind = type(task).__name__
    wanted = (*SPLITS, "input_size", "output_size", "metric_names", "loss", "measures", "metrics")
    missing = [name for name in wanted if not hasattr(task, name)]
    require(not missing, "dataset._target_", kind, f"must have {listed(missing)}, see atbptt/datasets/task.py")
    require(len(task.metric_names) > 0, "dataset.metric_names", task.metric_names, "must name a metric")
    for split in SPLITS:
        stream = getattr(task, split)
        name = f"dataset.{split}"
        require(isinstance(stream, Stream), name, type(stream).__name__, "must be an atbptt.datasets.Stream")
        with _errors_of(name):
            models.check_streams(stream.inputs, stream.targets)


def check_fit(model: nn.Module, task: Task, memory: bool = True) -> None:
    """Run the first steps of the data through the model, the loss and the metrics, as in training.

    `memory` is as for `check_recurrent`.
    """
    usable = isinstance(model, nn.Module) and callable(getattr(model, "initial_state", None))
    rule = "must make a torch.nn.Module with a method initial_state(batch)"
    require(usable, "model._target_", type(model).__name__, rule)
    inputs, targets = task.train.read(0, models.TRIED_STEPS)
    with _errors_of("model"):
        models.check_recurrent(model, inputs, memory=memory)
    with models.preserved(model):
        _check_outputs(model, task, inputs, targets)


def _check_outputs(model: nn.Module, task: Task, inputs: Tensor, targets: Tensor) -> None:
    """Check the model's outputs in training mode, with dropout: the loss, the metrics, whether the state matters."""
    with _errors_of("model"):
        state = models.leaves(model.initial_state(task.train.batch))  # type: ignore[operator]
        outputs, _ = models.pair_of(model, model(inputs, state))
    with _errors_of("dataset"):
        losses = models.losses_of(task.loss, outputs, targets)
        wrong = losses.detach()[~losses.isfinite()]
        rule = f"must be finite for the model's first outputs, on the first {models.TRIED_STEPS} steps of the data"
        require(not len(wrong), "loss", wrong[0].item() if len(wrong) else None, rule)
        means = {name: values.detach().mean().item() for name, values in task.measures(outputs, targets).items()}
        found = task.metrics(means)
        _check_predictions(task, outputs.detach(), targets)
        for name in task.metric_names:
            rule = f"is not among the metrics of the data set: {listed(found)}{did_you_mean(name, found)}"
            require(name in found, "metric_names", name, rule)
    depends = losses.requires_grad and any(
        gradient is not None for gradient in torch.autograd.grad(losses.sum(), models.tensors(state), allow_unused=True)
    )
    require(depends, "model._target_", type(model).__name__, "must make outputs that depend on its state")


def _check_predictions(task: Task, outputs: Tensor, targets: Tensor) -> None:
    if not isinstance(task, Predicting):
        return
    expected = tuple(targets.shape[:2])
    rule = f"must be two tensors of the shape (T, B) of the targets, {expected}"
    for quantity, pair in task.predictions(outputs, targets).items():
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in pair]
        require(shapes == [expected, expected], f"predictions.{quantity}", shapes, rule)


def check_probe(settings: ProbeSettings, model: nn.Module, task: Task, policy: Policy) -> None:
    settings.check_stream(task.train.length, "the training stream", "probe.burn_in + probe.window")
    try:
        check_asked(settings, model, task.loss, task.train, policy)
    except ConfigError as error:
        if error.name in GROUPS:
            raise error.within(GROUPS[error.name]) from error
        raise


@contextmanager
def _errors_of(part: str) -> Iterator[None]:
    """Report every error as a `ConfigError` of this part of the config."""
    try:
        yield
    except ConfigError as error:
        raise (error if error.name == part else error.within(part)) from error
    except Exception as error:  # of a user's own class
        raise ConfigError(part, f"fails on the first steps of the data: {described(error)}") from error
