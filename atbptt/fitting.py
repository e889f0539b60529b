"""Whether the parts of a run keep to their protocols and fit together: said before the first step."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.datasets.task import SPLITS, Task
from atbptt.errors import ConfigError, described, did_you_mean, listed, require
from atbptt.gradients import lag_gradients
from atbptt.models import halves
from atbptt.modes import evaluating
from atbptt.predictions import check_predictions
from atbptt.probes import ProbeSettings
from atbptt.shapes import check_outputs, check_state, losses_of, pair_of
from atbptt.states import State, leaves, tensors
from atbptt.streams import Stream
from atbptt.truncation.policy import Policy

TRIED_STEPS = 2  # of the training stream, run to see whether the model fits


def check_policy(policy: Policy) -> None:
    """Raise a `ConfigError` unless the object is a policy that a checkpoint can store."""
    kind = type(policy).__name__
    K = getattr(policy, "K", None)
    require(isinstance(K, int) and K >= 1, "truncation.K", K, f"must be an integer from 1 on in an object of {kind}")
    require(callable(getattr(policy, "update", None)), "truncation._target_", kind, "must have a method update")
    try:
        pickle.dumps(vars(policy))
    except Exception as error:  # no __dict__, or something in it that no file can hold
        raise ConfigError("truncation._target_", f"(={kind}) cannot be stored in a checkpoint: {error}") from error


def check_task(task: Task) -> None:
    """Raise a `ConfigError` unless the object has what `Task` asks for."""
    kind = type(task).__name__
    wanted = (*SPLITS, "input_size", "output_size", "metric_names", "loss", "measures", "metrics")
    missing = [name for name in wanted if not hasattr(task, name)]
    require(not missing, "dataset._target_", kind, f"must have {listed(missing)}, see atbptt/datasets/task.py")
    require(len(task.metric_names) > 0, "dataset.metric_names", task.metric_names, "must name a metric")
    for split in SPLITS:
        stream = getattr(task, split)
        name = f"dataset.{split}"
        require(isinstance(stream, Stream), name, type(stream).__name__, "must be an atbptt.datasets.Stream")
        shapes = tuple(stream.inputs.shape[:2]), tuple(stream.targets.shape[:2])
        same = shapes[0] == shapes[1] and len(shapes[0]) == 2 and min(shapes[0]) >= 1
        require(same, name, shapes, "must have inputs and targets of the same (T, B), none of them 0")


def check_fit(model: nn.Module, task: Task) -> None:
    """Run the first steps of the data through the model, the loss and the metrics, as training will.

    Raises:
        ConfigError: what does not fit, by its part.
    """
    usable = isinstance(model, nn.Module) and callable(getattr(model, "initial_state", None))
    rule = "must make a torch.nn.Module with a method initial_state(batch)"
    require(usable, "model._target_", type(model).__name__, rule)
    batch = task.train.batch
    inputs, targets = task.train.read(0, TRIED_STEPS)
    with _blaming("model"):
        state = model.initial_state(batch)  # type: ignore[operator]
        check_state(state, batch)
        state = leaves(state)
        outputs, after = pair_of(model, model(inputs, state))
        check_state(after, batch)
        check_outputs(outputs, inputs)
        _check_halves(model, inputs, state)
    with _blaming("dataset"):
        losses = losses_of(task.loss, outputs, targets)
        wrong = losses.detach()[~losses.isfinite()]
        rule = f"must be finite for the model's first outputs, on the first {TRIED_STEPS} steps of the data"
        require(not len(wrong), "loss", wrong[0].item() if len(wrong) else None, rule)
        means = {name: values.detach().mean().item() for name, values in task.measures(outputs, targets).items()}
        found = task.metrics(means)
        check_predictions(task, outputs.detach(), targets)
    for name in task.metric_names:
        told = f"is not among the metrics of the data set: {listed(found)}{did_you_mean(name, found)}"
        require(name in found, "dataset.metric_names", name, told)
    depends = losses.requires_grad and any(
        gradient is not None for gradient in torch.autograd.grad(losses.sum(), tensors(state), allow_unused=True)
    )
    require(depends, "model._target_", type(model).__name__, "must make outputs that depend on its state")


def _check_halves(model: nn.Module, inputs: Tensor, state: State) -> None:
    recur, decode = halves(model)
    if recur is model:  # it has none
        return
    with evaluating(model), torch.no_grad():
        whole, by_halves = model(inputs, state)[0], decode(recur(inputs, state)[0])
    same = whole.shape == by_halves.shape and torch.allclose(whole, by_halves, rtol=1e-4, atol=1e-5, equal_nan=True)
    require(same, "_target_", type(model).__name__, "must make the same outputs by decode(recur(inputs)) as by a call")


def check_probe(settings: ProbeSettings, model: nn.Module, task: Task, policy: Policy) -> None:
    """Raise a `ConfigError` where probes do not fit in the training stream, or cannot tell what the policy asks."""
    steps = settings.steps
    stream = task.train
    require(
        steps <= stream.length,
        "probe.burn_in + probe.window",
        steps,
        f"must not exceed the training stream's {stream.length} steps: a probe reads that many",
    )
    estimator, confidence = getattr(policy, "estimator", None), getattr(policy, "confidence", None)
    # The first two steps of the data, measured as a probe measures its window.
    positions, weights = [0, 1], np.full((1, 2, stream.batch), 1 / (2 * stream.batch))
    inputs, targets = stream.read(0, 2)
    found = lag_gradients(model, task.loss, inputs, targets, positions, measured=True, weights=weights).parameters
    if estimator == "measured" and found is None:
        name = type(model).__name__
        rule = f"(=measured) needs recurrent parameters, and the state of the model {name} depends on none"
        raise ConfigError("truncation.estimator", rule)
    if confidence is None:
        return
    rule = f"must be at least 1 for truncation.confidence (={confidence})"
    require(settings.resamples > 0, "probe.resamples", settings.resamples, rule)
    if estimator == "measured":
        rule = (
            "must be null with truncation.estimator=measured, but for a model whose whole state is that of one "
            "torch.nn.LSTM, GRU or RNN: of others, the streams' gradients are not told apart"
        )
        resampled = found is not None and found.resampled_bias is not None
        require(resampled, "truncation.confidence", confidence, rule)


@contextmanager
def _blaming(group: str) -> Iterator[None]:
    """Within, whatever goes wrong is told as an error of `group`."""
    try:
        yield
    except ConfigError as error:
        raise error.within(group) from error
    except Exception as error:  # whatever a user's own class does
        raise ConfigError(group, f"fails on the first steps of the data: {described(error)}") from error
