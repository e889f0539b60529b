"""The one training loop, for every task, model and policy."""

import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from atbptt.config import Settings, errors_of
from atbptt.datasets import SPLITS, Changing, Task
from atbptt.errors import require_64_bits, show
from atbptt.models import steps_at_once
from atbptt.randomness import seed_global
from atbptt.runs import RunDirectory, fitting, schema
from atbptt.system import Signals, StoppedError
from atbptt.training.checks import read_pass
from atbptt.training.clock import ComputeClock
from atbptt.training.costs import Costs
from atbptt.training.evaluation import bias_metrics, evaluate, lag_profiles, position_profiles, predict
from atbptt.truncation import Policy, next_due
from atbptt.windows import CheckedSchedule, Prober, Windows, full_lr, step, window_lr

HEARTBEAT_SECONDS = 1.0  # between updates of the status file
CHECKPOINT_SECONDS = 30.0  # between checkpoints, besides those at evaluations; does not change results
EVALUATION_SECONDS = 5.0  # of work that are worth a checkpoint before an evaluation
# Attributes of a trainer in a checkpoint, besides model, optimizer and windows.
EARLIER = {"K", "compute_seconds"}  # sums that earlier versions did not store
RESUMED = ("updates", "train_seconds", "compute_seconds", "sums", "next_evaluation", "best", "waited")


class DivergedError(RuntimeError):
    """Training is no longer finite."""


class Parts(NamedTuple):
    """What a config describes, on the CPU."""

    task: Task
    model: nn.Module
    policy: Policy
    optimizer: torch.optim.Optimizer
    schedule: CheckedSchedule


class Trainer:
    """The state of a run and the loop that advances it, window by window.

    Its state is the model, the optimizer, the schedule, the windows with their policy, and the attributes in `RESUMED`.
    Random numbers are drawn anew for each step (see `randomness`). So a run can continue exactly from any window. The
    parts move to `device`; `directory` must be locked by this process.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        directory: RunDirectory,
        device: torch.device,
        log: logging.Logger,
        signals: Signals,
        costs: Costs,
    ) -> None:
        self.settings = settings
        self.task, self.model, self.policy, self.optimizer, self.schedule = parts
        self.model.to(device)
        self.model.train()  # evaluation and probes restore this mode
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # moves its state to the parameters' device
        for split in SPLITS:
            setattr(self.task, split, getattr(self.task, split).to(device))
        self.directory, self.device, self.log, self.signals, self.costs = directory, device, log, signals, costs
        self.last_beat = self.last_checkpoint = time.monotonic()
        self.monitor = f"valid_{settings.monitor or self.task.metric_names[0]}"
        self.prober = Prober(settings.probe, settings.scheme, settings.seed, log)
        self.windows = Windows.over(
            self.task.train,
            self.model,
            self.task.loss,
            self.policy,
            scheme=settings.scheme,
            phase=settings.phase,
            prober=self.prober,
            seed=lambda purpose, step: seed_global(purpose, settings.seed, step),
        )
        self.steps_at_once = steps_at_once(self.task.train.batch, self.task.output_size)
        self.pass_read = 0  # whose stream is `task.train`
        self.updates = 0
        self.train_seconds = self.compute_seconds = 0.0
        self.clock = ComputeClock(device)
        self.sums = self._zero_sums()  # since the last evaluation
        self.next_evaluation = 0  # step; the first evaluation is before training
        self.best: dict[str, Any] = {}
        self.waited = 0.0  # epochs since the best evaluation, at the last that was due; 0 where no patience is set

    def _zero_sums(self) -> dict[str, Any]:
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        sums = {"loss": zero, "losses": 0, "norm": zero.clone(), "updates": 0, "seconds": 0.0, "steps": 0, "K": 0}
        return {**sums, "compute_seconds": 0.0}

    def _decayed_lr(self) -> float:
        """The learning rate now, before it is scaled with a window's length."""
        with errors_of("lr_decay", f"fails at epoch {self.windows.epoch:.3g}"):
            return self.schedule.rate(self.settings.lr, self.windows.epoch)

    def train(self) -> None:
        """Train until the budget is spent, with evaluations and checkpoints on the way.

        Raises:
            DivergedError: training is no longer finite, which the metrics tell too.
        """
        try:
            self._train()
        except DivergedError:
            self.directory.tables.add(schema.METRICS, _columns([(schema.DIVERGED, 0, 1.0)]), self._clock())
            raise

    def _train(self) -> None:
        for note in getattr(self.task, "notes", ()):
            self.log.info("data, %s", note)
        self._resume()
        self._read_pass(self.windows.cursor.pass_read)
        self.directory.set_status(schema.RUNNING, epoch=self.windows.epoch, first_epoch=self.windows.epoch)
        self._evaluate_if_due()
        while not self.settings.budget_spent(self.windows.epoch, self.train_seconds, self.waited):
            with self.clock.running():
                self._advance()
            self._pause()
            self._evaluate_if_due()
        if self.sums["steps"]:
            # The budget ends between two evaluations, where a larger budget would have no evaluation. So the last
            # checkpoint is the one before it: a run that continues drops the rows of this evaluation.
            self._checkpoint()
            self._evaluate()
        impatient = self.settings.out_of_patience(self.waited)
        if impatient:
            self.log.info("no better %s for %.3g epochs, which ends the run (patience)", self.monitor, self.waited)
        self.directory.finish(schema.PATIENCE if impatient else None, **self._progress())
        self.log.info("finished: %.3g epochs, %d updates, %.1f s", self.windows.epoch, self.updates, self.train_seconds)

    def _read_pass(self, number: int) -> None:
        """Go on with the stream of a pass, where each has another."""
        if isinstance(self.task, Changing) and number != self.pass_read:
            read_pass(self.task, number, self.settings.seed)
            self.task.train = self.task.train.to(self.device)
            self.windows.read(self.task.train)
            self.pass_read = number

    def _evaluate_if_due(self) -> None:
        if self.windows.step < self.next_evaluation:
            return
        if time.monotonic() - self.last_checkpoint > EVALUATION_SECONDS:
            self._checkpoint()  # the evaluation may take long
        self._evaluate()
        waited = round(self.windows.epoch - self.best["epoch"], 9)  # else 0.7 - 0.4 is less than 0.3
        self.waited = 0.0 if self.settings.patience is None else waited
        self.next_evaluation = next_due(self.windows.step, self.settings.evaluate_every, self.task.train.length)
        self.sums = self._zero_sums()
        self._checkpoint()

    def _pause(self, evaluating: bool = False) -> None:
        """Write a heartbeat and a checkpoint if they are due; raise a `StoppedError` if a signal ends the run.

        An evaluation changes no state until it is stored: within one, checkpoints can wait, but for the last.
        """
        now, ending = time.monotonic(), self.signals.ending
        if now - self.last_beat > HEARTBEAT_SECONDS:
            if not evaluating:
                self._check_finite(parameters=False)  # so that seconds do not decide at which step they are found
            self._beat()
        due = self.signals.storing or now - self.last_checkpoint > CHECKPOINT_SECONDS
        if ending or (due and not evaluating):
            self.signals.storing = False
            self._checkpoint()
        if ending:
            self._beat()
            raise StoppedError(f"{ending.name} at epoch {self.windows.epoch:.3g}")

    def _advance(self) -> None:
        self._read_pass(self.windows.cursor.epochs_done)
        began, step_before = time.perf_counter(), self.windows.step
        window = next(iter(self.windows), None)
        if window is None:  # in the rest of the pass no loss counts
            self.sums["steps"] += self.windows.step - step_before
            self._spend(time.perf_counter() - began)
            return
        settings = self.settings
        lr = window_lr(self._decayed_lr(), settings.lr_scaling, self.policy, settings.scheme, window.averaged)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        objective = window.loss(self.steps_at_once)
        clip = self.settings.clip_norm
        norm = step(self.model, self.optimizer, objective, None if clip is None else clip / window.averaged)
        self.updates += 1
        sums = self.sums
        sums["loss"].add_(window.mean_loss, alpha=window.losses)  # stays on the device: no wait for the GPU
        sums["losses"] += window.losses
        if norm is not None:
            sums["norm"].add_(norm)
        sums["updates"] += 1
        sums["steps"] += self.windows.step - step_before
        sums["K"] += window.K
        self._spend(time.perf_counter() - began)

    def _spend(self, seconds: float) -> None:
        self.train_seconds += seconds
        self.sums["seconds"] += seconds

    def _check_finite(self, parameters: bool = True) -> None:
        """Raise a `DivergedError` if the loss, the gradient or (if asked) a parameter is not finite."""
        began = time.perf_counter()
        loss = float(self.sums["loss"])  # waits until the GPU has finished the training steps
        self._spend(time.perf_counter() - began)
        computed = self.clock.spent()
        self.compute_seconds += computed
        self.sums["compute_seconds"] += computed
        # With clipping, a gradient of infinite norm would leave the parameters and the loss as they are.
        sums = {"the training loss": loss, "the training gradient's norm": float(self.sums["norm"])}
        wrong = [name for name, value in sums.items() if not math.isfinite(value)]
        if parameters:  # without clipping, the loss would show it one window later
            named = self.model.named_parameters()
            wrong += [f"{name} of the model" for name, values in named if not bool(values.isfinite().all())]
        if wrong:
            clip = "null" if self.settings.clip_norm is None else f"{self.settings.clip_norm:g}"
            raise DivergedError(
                f"{wrong[0]} is not finite after {self.updates} updates (epoch {self.windows.epoch:.3g}); "
                f"a lower lr (={self.settings.lr:g}) or clip_norm (={clip}) may help"
            )

    def _evaluate(self) -> None:
        self._check_finite()
        seed_global("evaluation", self.settings.seed, self.windows.step)
        found = self._training_metrics()
        for split in ("valid", "test"):
            measured = evaluate(self.model, self.task, getattr(self.task, split), partial(self._pause, evaluating=True))
            found |= {f"{split}_{name}": value for name, value in measured.items()}
        self.schedule.validated(float(found[self.monitor]))
        K = self.windows.cursor.K
        found |= {"K": K, "lr": full_lr(self._decayed_lr(), self.settings.lr_scaling, self.policy, K)}
        probe, all_readings = self.settings.probe, {"measured": True, "resampled": True, "noise": True}
        measurements = []
        if probe is not None:
            measurements = self.prober.measure(
                self.model, self.task.loss, self.task.train, "evaluation", self.windows.step, **all_readings
            )
        found |= self.costs.measured(self.device)
        values = [(metric, 0, value) for metric, value in found.items()] + bias_metrics(measurements, K)
        clock, tables = self._clock(), self.directory.tables
        if self.best.get("metric") != self.monitor:  # none yet, or the run continues with another
            self.best = {"metric": self.monitor, "value": math.inf, "epoch": 0.0}
        if found[self.monitor] < self.best["value"]:
            self.best.update(value=found[self.monitor], epoch=self.windows.epoch)
            if predictions := predict(self.model, self.task):
                tables.add(schema.PREDICTIONS, predictions, clock)
            state = {"model": self.model.state_dict(), **self.windows.saved(), "best": self.best}
            self.directory.save_best(state)
        tables.add(schema.METRICS, _columns(values), clock)
        if probe is not None:
            tables.add(schema.GRADIENTS, lag_profiles(measurements, probe.average), clock)
            tables.add(schema.POSITIONS, position_profiles(measurements, probe.loss_positions, probe.average), clock)
        shown = (each for each in values if each[1] == 0 and not each[0].endswith(("_low", "_high")))
        text = ", ".join(f"{metric} {value:.4g}" for metric, _, value in shown)
        self.log.info("epoch %.3g: %s", self.windows.epoch, text)
        self._beat()

    def _clock(self) -> dict[str, float]:
        return {
            "step": self.windows.step,
            "epoch": self.windows.epoch,
            "adaptive_epoch": self.windows.adaptive_epoch,
            "updates": self.updates,
            "train_seconds": self.train_seconds,
            "compute_seconds": self.compute_seconds,
        }

    def _training_metrics(self) -> dict[str, float]:
        """Means since the last evaluation; none before the first update."""
        sums = self.sums
        if not sums["losses"]:
            return {}
        found = {
            "train_loss": float(sums["loss"]) / sums["losses"],
            "steps_per_second": sums["steps"] / max(sums["seconds"], 1e-9),
            "steps_per_compute_second": sums["steps"] / max(sums["compute_seconds"], 1e-9),
            "mean_K": sums["K"] / sums["updates"],
        }
        if self.settings.clip_norm is not None:
            found["grad_norm"] = float(sums["norm"]) / sums["updates"]
        return found

    def _beat(self) -> None:
        self.costs.look()
        self.directory.set_status(schema.RUNNING, **self._progress())
        self.last_beat = time.monotonic()

    def _progress(self) -> dict[str, Any]:
        return {
            "step": self.windows.step,
            "epoch": self.windows.epoch,
            "train_seconds": self.train_seconds,
            "K": self.windows.cursor.K,
            "monitor": self.monitor,
            "best": self.best.get("value"),
            "best_epoch": self.best.get("epoch"),
            "waited": self.waited,
            "device": str(self.device),
        }

    def _checkpoint(self) -> None:
        """Store the state of the run if it is finite, else keep the checkpoint before."""
        self._check_finite()
        self.directory.save_checkpoint(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                **self.windows.saved(),
                **{name: getattr(self, name) for name in RESUMED},
                "costs": self.costs.measured(self.device),
            }
        )
        self.last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        saved = self.directory.load_checkpoint(self.log)
        if saved is None:
            return
        with fitting(self.directory.path / schema.CHECKPOINT):
            self._restore(saved)
        self.log.info("continues from its checkpoint at epoch %.3g", self.windows.epoch)

    def _restore(self, saved: dict[str, Any]) -> None:
        """Take over the content of a checkpoint (any error if it is that of something else)."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved.get("schedule", {}))  # earlier versions had none with a state
        self.windows.restore(saved)
        # Earlier versions did not store these, nor two of the sums.
        saved = {"compute_seconds": math.nan, "waited": 0.0, **saved}
        for name in RESUMED:
            own = {"metric": "", "value": 0.0, "epoch": 0.0} if name == "best" and saved[name] else getattr(self, name)
            _check_kind(name, saved[name], own)
            setattr(self, name, saved[name])
        for name in EARLIER:
            self.sums.setdefault(name, math.nan if self.sums["updates"] else 0)
        self.costs.go_on(saved.get("costs"))
        self.sums["loss"], self.sums["norm"] = (self.sums[name].to(self.device) for name in ("loss", "norm"))


def _check_kind(name: str, found: object, own: object) -> None:
    """Raise an error unless a stored value is of the kind of ours: a number, text, tensor, or dict with its keys."""
    kinds = (Tensor, dict, str, int | float)
    kind = next(kind for kind in kinds if isinstance(own, kind))
    if not isinstance(found, kind) or (isinstance(found, Tensor) and found.numel() != 1):
        raise TypeError(f"{name} (={show(found)}) is not like ours (={show(own)})")
    require_64_bits(name, found)
    if isinstance(found, dict) and isinstance(own, dict):
        for key in own.keys() - EARLIER:
            _check_kind(f"{name}.{key}", found[key], own[key])


def _columns(values: Sequence[tuple[str, int, float]]) -> dict[str, Any]:
    return dict(zip(("metric", "replicate", "value"), zip(*values, strict=True), strict=True))
