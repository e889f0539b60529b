"""Checks before the first step: whether the parts of a run follow their protocols and fit together."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atbptt import models
from atbptt.config import Component, errors_of
from atbptt.datasets import SPLITS, Changing, Predicting, Task
from atbptt.errors import ConfigError, DataWarning, did_you_mean, listed, require, require_whole, show
from atbptt.probes import ProbeSettings
from atbptt.randomness import seed_global
from atbptt.system import plain, require_memory
from atbptt.truncation import Policy
from atbptt.windows import CheckedSchedule, Stream, check_asked, clip

FEW_STEPS, FEW_STREAMS = 2, 4  # whose tensors tell how large those of all are
OPTIMIZER = ("param_groups", "step", "state_dict", "load_state_dict")  # what training uses of one
_errors_of = partial(errors_of, rule="fails on the first steps of the data")

GROUPS = {  # of options in `check_asked`
    **dict.fromkeys(("estimator", "confidence"), "truncation"),
    **dict.fromkeys(("resamples", "positions", "window", "average"), "probe"),
}


def check_task(task: Task) -> None:
    kind = type(task).__name__
    wanted = (*SPLITS, "input_size", "output_size", "metric_names", "loss", "measures", "metrics")
    missing = [name for name in wanted if not hasattr(task, name)]
    require(not missing, "dataset._target_", kind, f"must have {listed(missing)}, see atbptt/datasets/task.py")
    with errors_of("dataset", "fails to tell what it is"):
        _check_description(task)
    for split in SPLITS:
        stream = getattr(task, split)
        name = f"dataset.{split}"
        require(isinstance(stream, Stream), name, type(stream).__name__, "must be an atbptt.datasets.Stream")
        with _errors_of(name):
            models.check_streams(stream.inputs, stream.targets, stream.counted, stream.resets)
        require(stream.losses(0, stream.length) > 0, f"{name}.counted", 0, "must count a loss")


def read_pass(task: Task, number: int, seed: int) -> None:
    """Let `task.train` be the stream of a pass, if each has another (ConfigError unless it is like the one before)."""
    if not isinstance(task, Changing):
        return
    call = f"train_pass({number})"
    seed_global("data", seed, number)
    with errors_of("dataset", f"fails in {call}"):
        stream = task.train_pass(number)
    require(isinstance(stream, Stream), f"dataset.{call}", type(stream).__name__, "must be an atbptt.datasets.Stream")
    with errors_of("dataset", f"fails in {call}"):
        models.check_streams(stream.inputs, stream.targets, stream.counted, stream.resets)
    for name in ("inputs", "targets"):
        found, own = (models.kinds(getattr(each, name)) for each in (stream, task.train))
        require(found == own, f"dataset.{call}.{name}", found, f"must be like those of the pass before: {own}")
    task.train = stream


def _check_description(task: Task) -> None:
    """Check what a data set says of itself, as texts and numbers."""
    for size in ("input_size", "output_size"):
        require_whole(size, getattr(task, size), 1)
    names, notes = task.metric_names, getattr(task, "notes", ())
    require(_are_texts(names), "metric_names", names, "must be a list of names of metrics")
    require(len(names) > 0, "metric_names", names, "must name a metric")
    require(_are_texts(notes), "notes", notes, "must be a list of lines of text")


def _are_texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def check_fit(model: nn.Module, task: Task, memory: bool = True) -> None:
    """Run the first steps of the data through the model, the loss and the metrics, as in training.

    `memory` is as for `check_recurrent`.
    """
    check_model(model)
    inputs, targets = task.train.read(0, models.TRIED_STEPS)
    with _errors_of("model"):
        models.check_recurrent(model, inputs, memory=memory)
    with models.preserved(model):
        _check_outputs(model, task, inputs, targets)


def check_model(model: object) -> None:
    """Raise a `ConfigError` unless it is a model, of which a copy fits in memory."""
    usable = isinstance(model, nn.Module)
    require(usable, "model._target_", type(model).__name__, "must make a torch.nn.Module")
    assert isinstance(model, nn.Module)
    with errors_of("model", f"(={type(model).__name__}) cannot be stored in a checkpoint"):
        plain(model.state_dict(), "state_dict")
    # A check copies the model in float64, and training needs as much for gradients and the optimizer.
    tensors = [*model.parameters(), *model.buffers()]
    needed = 2 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    count = sum(tensor.numel() for tensor in tensors)
    require_memory("model._target_", type(model).__name__, needed, f"with {count:,} parameters")


def _check_outputs(model: nn.Module, task: Task, inputs: models.Nested, targets: models.Nested) -> None:
    """Check the model's outputs in training mode, with dropout: the loss, the metrics, whether the state matters."""
    with _errors_of("model"):
        state = models.leaves(models.starting_state(model, inputs))
        outputs, _ = models.pair_of(model, model(inputs, state))
    with _errors_of("dataset"):
        pair = models.counted_of(task.loss, outputs, targets) is not None
        rule = "must return losses alone: a stream says which count, Stream(inputs, targets, counted=...)"
        require(not pair, "loss", "a pair", rule)
        losses = models.losses_of(task.loss, outputs, targets)
        wrong = losses.detach()[~losses.isfinite()]
        rule = f"must be finite for the model's first outputs, on the first {models.TRIED_STEPS} steps of the data"
        require(not len(wrong), "loss", wrong[0].item() if len(wrong) else None, rule)
        detached = models.detach(outputs)
        _check_metrics(task, detached, targets)
        _check_predictions(task, detached, targets)
    parts = models.differentiable(state)
    depends = losses.requires_grad and any(
        gradient is not None for gradient in torch.autograd.grad(losses.sum(), parts, allow_unused=True)
    )
    require(depends, "model._target_", type(model).__name__, "must make outputs that depend on its state")


def _check_metrics(task: Task, outputs: models.Nested, targets: models.Nested) -> None:
    measures = _by_name("measures", task.measures(outputs, targets), "tensors")
    means = {}
    for name, values in measures.items():
        expected = models.axes(targets)
        made = tuple(values.shape) if isinstance(values, Tensor) else _kind(values)
        require(made == expected, f"measures.{name}", made, f"must be a tensor of the shape (T, B), {expected}")
        means[name] = values.double().mean().item()
    found = _by_name("metrics", task.metrics(means), "numbers")
    for name, value in found.items():
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        require(number, f"metrics.{name}", value, "must be a number")
    for name in task.metric_names:
        rule = f"is not among the metrics of the data set: {listed(found)}{did_you_mean(name, found)}"
        require(name in found, "metric_names", name, rule)


def _by_name(method: str, made: Any, kind: str) -> Mapping[str, Any]:
    """What a method of a data set returns, if it is a dict with names for keys."""
    named = isinstance(made, Mapping) and _are_texts([*made])
    require(named, method, made, f"must return a dict of {kind} by name")
    return made


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _check_predictions(task: Task, outputs: models.Nested, targets: models.Nested) -> None:
    if not isinstance(task, Predicting):
        return
    expected = models.axes(targets)
    rule = f"must be two tensors of the shape (T, B) of the targets, {expected}"
    for quantity, pair in _by_name("predictions", task.predictions(outputs, targets), "pairs of tensors").items():
        parts = pair if isinstance(pair, tuple | list) else [pair]
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else _kind(part) for part in parts]
        require(shapes == [expected, expected], f"predictions.{quantity}", shapes, rule)


def check_probe(settings: ProbeSettings, model: nn.Module, task: Task, policy: Policy) -> None:
    settings.check_stream(task.train.length, "the training stream", "probe.burn_in + probe.window")
    try:
        with errors_of("model", "cannot be probed"):
            check_asked(settings, model, task.loss, task.train, policy)
    except ConfigError as error:
        name = error.name.removeprefix("model.")
        if name == "policy":
            raise ConfigError("truncation", error.rule) from error
        raise (ConfigError(f"{GROUPS[name]}.{name}", error.rule) if name in GROUPS else error) from error


def check_optimizer(part: Component, lr: float, model: nn.Module, task: Task, clip_norm: float | None) -> None:
    """Let another optimizer of the same kind make the first step, on a copy of the parameters.

    One that holds some of the model's parameters leaves the others as they begin, which a warning says.
    """
    kind = show(part.target)
    parameters = list(model.parameters())
    copies = [nn.Parameter(parameter.detach().clone(), parameter.requires_grad) for parameter in parameters]
    optimizer = part.build(iter(copies), lr=lr)
    missing = [name for name in OPTIMIZER if not hasattr(optimizer, name)]
    rule = f"makes {_kind(optimizer)}, which is no torch.optim.Optimizer: it lacks {listed(missing)}"
    require(not missing, "optimizer._target_", kind, rule)
    with errors_of("optimizer", f"(={kind}) has no groups of parameters, as torch.optim.Optimizer has"):
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    _check_held([id(copy) in held for copy in copies if copy.requires_grad], kind)
    with models.preserved(model), _errors_of("model"):
        inputs, targets = task.train.read(0, models.TRIED_STEPS)
        outputs, _ = models.pair_of(model, model(inputs, models.starting_state(model, inputs)))
        models.losses_of(task.loss, outputs, targets).mean().backward()
    if any(group.get("capturable") for group in optimizer.param_groups):
        return  # it steps on a GPU only, and a context on one takes memory
    for copy, parameter in zip(copies, parameters, strict=True):
        copy.grad, parameter.grad = parameter.grad, None
    with errors_of("optimizer", f"(={kind}) fails in its first step, which takes no closure"):
        if clip_norm is not None:
            clip(copies, clip_norm)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    with errors_of("optimizer", f"(={kind}) cannot be stored in a checkpoint"):
        plain(optimizer.state_dict(), "state_dict")


def check_schedule(part: Component, lr: float) -> None:
    """Let another schedule of the same kind do what it does at the first evaluation and update."""
    kind, given = show(part.target), part.build()
    with errors_of("lr_decay", f"(={kind}) fails at the first update"):
        schedule = CheckedSchedule(given)
        schedule.validated(1.0)
        schedule.rate(lr, 0.0)
    with errors_of("lr_decay", f"(={kind}) cannot be stored in a checkpoint"):
        schedule.load_state_dict(plain(schedule.state_dict(), "state_dict"))


def _check_held(held: Sequence[bool], kind: str) -> None:
    """Whether an optimizer holds each of the parameters that can be learned."""
    require(any(held), "optimizer._target_", kind, "holds none of the model's parameters: it would learn nothing")
    if not all(held):
        text = f"holds {sum(held)} of the model's {len(held)} parameters: the others stay as they begin"
        warnings.warn(f"optimizer._target_ (={kind}) {text}", DataWarning, stacklevel=2)


def check_room(model: nn.Module, task: Task, steps: int) -> None:
    """Raise a `ConfigError` if the model's largest tensor in so many steps of all streams is more than free memory.

    It is found from a few steps of a few streams. All that a run keeps at a time is some of these, so that this refuses
    only what cannot fit.
    """
    few = min(task.train.batch, FEW_STREAMS)
    inputs, _ = task.train.read(0, 2 * FEW_STEPS)
    sizes = []
    with models.preserved(model), models.evaluating(model), torch.no_grad():
        for some in (FEW_STEPS, 2 * FEW_STEPS):
            # What a user's own class raises is reported when it runs with all streams, unless it does so for few only.
            with suppress(ConfigError), _errors_of("model"), _Largest(model) as largest:
                part = models.at(inputs, (slice(some), slice(few)))
                models.halves(model).recur(part, models.starting_state(model, part))
                sizes.append(largest.bytes)
    if len(sizes) == 2:
        of_all = (sizes[1] - sizes[0]) * steps * task.train.batch // (FEW_STEPS * few)
        what = f"in {steps} steps of {task.train.batch} streams at once"
        require_memory("model", type(model).__name__, of_all, what)


class _Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made, but for the model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for part in tree_leaves(made):
            if isinstance(part, Tensor) and part.layout is torch.strided:
                storage = part.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.bytes = max(self.bytes, storage.nbytes())
        return made
