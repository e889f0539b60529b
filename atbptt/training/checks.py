"""Whether the parts of a run keep to their protocols and fit together: said before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from atbptt.datasets import SPLITS, Task
from atbptt.errors import ConfigError, described, did_you_mean, listed, require
from atbptt.models import State, check_outputs, check_state, evaluating, halves, leaves, losses_of, pair_of, tensors
from atbptt.probes import ProbeSettings
from atbptt.training.evaluation import check_predictions
from atbptt.truncation import Policy
from atbptt.windows import Stream, check_asked

ASKED = {"estimator": "truncation", "confidence": "truncation", "resamples": "probe"}  # whose options these are
TRIED_STEPS = 2  # of the training stream, run to see whether the model fits


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
        rule = f"is not among the metrics of the data set: {listed(found)}{did_you_mean(name, found)}"
        require(name in found, "dataset.metric_names", name, rule)
    depends = losses.requires_grad and any(
        gradient is not None for gradient in torch.autograd.grad(losses.sum(), tensors(state), allow_unused=True)
    )
    require(depends, "model._target_", type(model).__name__, "must make outputs that depend on its state")


def _check_halves(model: nn.Module, inputs: Tensor, state: State) -> None:
    parts = halves(model)
    if parts.whole:
        return
    with evaluating(model), torch.no_grad():
        whole, by_halves = model(inputs, state)[0], parts.decode(parts.recur(inputs, state)[0])
    same = whole.shape == by_halves.shape and torch.allclose(whole, by_halves, rtol=1e-4, atol=1e-5, equal_nan=True)
    require(same, "_target_", type(model).__name__, "must make the same outputs by decode(recur(inputs)) as by a call")


def check_probe(settings: ProbeSettings, model: nn.Module, task: Task, policy: Policy) -> None:
    """Raise a `ConfigError` where probes do not fit in the training stream, or cannot tell what the policy asks."""
    rule = f"must not exceed the training stream's {task.train.length} steps: a probe reads that many"
    require(settings.steps <= task.train.length, "probe.burn_in + probe.window", settings.steps, rule)
    try:
        check_asked(settings, model, task.loss, task.train, policy)
    except ConfigError as error:
        if error.name in ASKED:
            raise error.within(ASKED[error.name]) from error
        raise


@contextmanager
def _blaming(group: str) -> Iterator[None]:
    """Within, whatever goes wrong is reported as an error of `group`."""
    try:
        yield
    except ConfigError as error:
        raise error.within(group) from error
    except Exception as error:  # whatever a user's own class does
        raise ConfigError(group, f"fails on the first steps of the data: {described(error)}") from error
