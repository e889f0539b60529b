"""One experiment: build what its config describes, train it to its budget."""

import math
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

from atbptt.config import Settings, build_policy, check_probing
from atbptt.datasets import Task
from atbptt.errors import require_choice
from atbptt.randomness import seed_global
from atbptt.runs import DamagedError, Origin, RunDirectory, check_id, fitting, read_checkpoint, schema
from atbptt.system import Signals, StoppedError, listen, listening
from atbptt.training.checks import (
    check_fit,
    check_model,
    check_optimizer,
    check_probe,
    check_room,
    check_schedule,
    check_task,
    read_pass,
)
from atbptt.training.costs import Costs
from atbptt.training.devices import configure_torch, leased_device, on_gpu
from atbptt.training.evaluation import CHUNK
from atbptt.training.trainer import Parts, Trainer
from atbptt.windows import CheckedSchedule, check_scheme


def build_task(settings: Settings) -> Task:
    """Build a run's data set and check its attributes (ConfigError)."""
    seed_global("data", settings.seed)
    task: Task = settings.component("dataset").build()
    check_task(task)
    # Not after hours that another pass cannot be made.
    for number in (math.ceil(settings.epochs) - 1, 0):
        read_pass(task, number, settings.seed)
    return task


def build(settings: Settings, task: Task | None = None, *, memory: bool = True, here: bool = False) -> Parts:
    """Build a run's parts, or all but its task, and check that they fit together (ConfigError).

    The initial parameters depend only on the model's settings and `init`. `memory` is as for `check_recurrent`; `here`
    is whether it will run on this machine, whose memory it must fit in then.
    """
    policy = build_policy(settings)
    check_scheme(policy, settings.scheme, settings.phase)
    check_probing(settings, policy)
    task = build_task(settings) if task is None else task
    if settings.monitor is not None:
        require_choice("monitor", settings.monitor, task.metric_names)
    seed_global("initial parameters", settings.init)
    model: nn.Module = settings.component("model").build(input_size=task.input_size, output_size=task.output_size)
    check_model(model)
    if here and not on_gpu(settings.device.type):
        check_room(model, task, max(min(CHUNK, task.valid.length), min(policy.K, task.train.length)))
    check_fit(model, task, memory)
    if settings.probe is not None:
        check_probe(settings.probe, model, task, policy)
    chosen = settings.component("optimizer")
    check_optimizer(chosen, settings.lr, model, task, settings.clip_norm)
    optimizer: torch.optim.Optimizer = chosen.build(model.parameters(), lr=settings.lr)
    decay = settings.component("lr_decay")
    check_schedule(decay, settings.lr)
    return Parts(task, model, policy, optimizer, CheckedSchedule(decay.build()))


def _check_checkpoint(directory: RunDirectory, parts: Parts) -> None:
    """Raise a CheckpointError if the last checkpoint cannot be taken over by the parts, which then have its state.

    OSError if it cannot be read.
    """
    path = directory.path / schema.CHECKPOINT
    try:
        saved = read_checkpoint(path)
    except (FileNotFoundError, DamagedError):
        return  # the run goes on from the previous one, or begins anew
    check_id(path, saved, directory.experiment_id)
    with fitting(path):
        for name in ("model", "optimizer", "policy"):
            getattr(parts, name).load_state_dict(saved[name])
        parts.schedule.load_state_dict(saved.get("schedule", {}))


def run(settings: Settings, origin: Origin | None = None, signals: Signals | None = None) -> RunDirectory:
    """Run an experiment to its budget, from its checkpoint if there is one; a finished run returns at once.

    If its origin says `rerun`, it begins anew once, and what is stored of it is set aside.

    Arguments:
        origin: what started it; None is this process.
        signals: the signals received by the process; None handles them during the run, if in the main thread.

    Raises:
        BusyError: another process works on it.
        StoppedError: a signal ended it; it continues from its checkpoint.
        Exception: any other error; its traceback is stored first, and the status is failed. But a finished run with a
            larger budget stays finished if its data or code have changed, or its parts do not fit its checkpoint.
    """
    origin = Origin() if origin is None else origin
    costs = Costs()
    directory = RunDirectory(settings, origin.experiment_id)
    anew = origin.rerun and not directory.begun_anew(origin.sweep)
    if directory.finished() and not anew:
        return directory
    with listening() if signals is None else nullcontext(signals) as signals:
        # The sweep has checked the memory of the same code, which takes seconds for a large model.
        make = partial(build, settings, memory=origin.experiment_id is None, here=True)
        # A new run is built before its directory is made, so that a wrong config leaves no directory.
        parts = make() if anew or not directory.path.exists() else None
        if anew:
            directory.set_aside(origin.sweep)
        with directory.lock():
            if directory.finished():  # by the process that held the lock until now
                return directory
            if directory.status().get("state") == schema.FINISHED:  # extended; if it cannot be, it stays finished
                directory.check_unchanged(origin.hashes)
                parts = make() if parts is None else parts
                _check_checkpoint(directory, parts)
            try:
                directory.begin(origin)
                parts = make() if parts is None else parts
                listen(signals)  # a user's own class may have changed the handlers
                wanted = settings.device
                beat = partial(directory.set_status, schema.RUNNING)
                lease = leased_device(wanted.type, wanted.jobs_per_gpu, signals, waiting=beat)
                with directory.logging() as log, lease as device:
                    directory.note_environment(origin, log)
                    configure_torch(wanted.threads)
                    Trainer(settings, parts, directory, device, log, signals, costs).train()
            except StoppedError as stopped:
                directory.stop(str(stopped))
                raise
            except BaseException as error:
                directory.fail(error)
                raise
    return directory
