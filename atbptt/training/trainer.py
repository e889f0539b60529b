"""The one training loop, for every task, model and policy."""

from __future__ import annotations

import logging
import math
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from atbptt.config import Settings
from atbptt.datasets import SPLITS, Task
from atbptt.models import LossFunction, steps_at_once
from atbptt.probes import Measurement, ProbeSettings
from atbptt.randomness import seed_global
from atbptt.runs import RunDirectory, schema
from atbptt.system import Signals, StoppedError
from atbptt.training.evaluation import evaluate, predict
from atbptt.training.probe_metrics import bias_metrics, lag_profiles, position_profiles
from atbptt.truncation import Policy, next_due
from atbptt.windows import Prober, Stream, StreamWindow, Windows, full_lr, step, window_lr

HEARTBEAT_SECONDS = 1.0  # between updates of the status file
CHECKPOINT_SECONDS = 30.0  # between checkpoints, besides those at evaluations; when one is written changes no result
EVALUATION_SECONDS = 5.0  # of work that are stored before an evaluation begins


# What a checkpoint holds of a trainer besides model, optimizer and windows.
RESUMED = ("updates", "train_seconds", "sums", "next_evaluation", "best")


class DivergedError(RuntimeError):
    """Training is no longer finite."""


class Parts(NamedTuple):
    """What a config describes, built on the CPU."""

    task: Task
    model: nn.Module
    policy: Policy
    optimizer: torch.optim.Optimizer


class ReportingProber(Prober):
    """Says in the run's log what keeps a probe from telling anything, and once why probes take longer.

    Arguments:
        settings, seed: see `Prober`.
        log: the run's.
    """

    def __init__(self, settings: ProbeSettings, seed: int, log: logging.Logger) -> None:
        super().__init__(settings, seed)
        self.log = log
        self.noted_unsuited = False

    def measure(
        self, model: nn.Module, loss: LossFunction, stream: Stream, purpose: str, step: int, **options: Any
    ) -> list[Measurement]:
        """As `Prober.measure`."""
        measurements = super().measure(model, loss, stream, purpose, step, **options)
        if (unsuited := measurements[0].gradients.unsuited) and not self.noted_unsuited:
            self.noted_unsuited = True
            self.log.info("probes run the model step by step, which takes longer: %s", unsuited)
        for number, measurement in enumerate(measurements):
            if problem := measurement.problem():
                message = "epoch %.3g: probe %d for %s says nothing, and changes nothing: %s"
                self.log.warning(message, step / stream.length, number, purpose, problem)
        return measurements


class Trainer:
    """The state of a run and the loop that advances it, window by window.

    What decides what comes next is the model, the optimizer, the windows with their policy, and the attributes in
    `RESUMED`. What is random is drawn anew for each step (see `randomness`). So a run continues exactly from any
    window.

    Arguments:
        settings: the run's config.
        parts: built from it, on the CPU; they move to `device`.
        directory: the run's, held by this process.
        device: where to compute.
        log: the run's.
        signals: the signals received by the process.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        directory: RunDirectory,
        device: torch.device,
        log: logging.Logger,
        signals: Signals,
    ) -> None:
        self.settings = settings
        self.task, self.model, self.policy, self.optimizer = parts
        self.model.to(device)
        self.model.train()  # evaluation and probes put it back
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # moves its state to where the parameters are
        self.directory = directory
        self.device = device
        self.log = log
        self.signals = signals
        self.last_beat = self.last_checkpoint = time.monotonic()
        self.monitor = f"valid_{settings.monitor or self.task.metric_names[0]}"
        self._move_data()
        self.prober = ReportingProber(settings.probe, settings.seed, log)
        self.windows = Windows.over(
            self.task.train,
            self.model,
            self.task.loss,
            self.policy,
            scheme=settings.scheme,
            prober=self.prober,
            seed=lambda purpose, step: seed_global(purpose, settings.seed, step),
        )
        self.steps_at_once = steps_at_once(self.task.train.batch, self.task.output_size)
        # What the run has cost.
        self.updates = 0
        self.train_seconds = 0.0
        # Sums since the last evaluation.
        self.sums = self._zero_sums()
        # The first evaluation is before training.
        self.next_evaluation = 0
        self.best: dict[str, Any] = {}

    def _move_data(self) -> None:
        """All splits move to the device once."""
        for split in SPLITS:
            setattr(self.task, split, getattr(self.task, split).to(self.device))

    def _zero_sums(self) -> dict[str, Any]:
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        return {"loss": zero, "losses": 0, "norm": zero.clone(), "updates": 0, "seconds": 0.0, "steps": 0, "K": 0}

    @property
    def epoch_steps(self) -> int:
        """Steps in an epoch: the training stream's length T."""
        return self.task.train.length

    @property
    def decayed_lr(self) -> float:
        """The learning rate of this epoch, before it is scaled with a window's length."""
        decay = 1.0 if self.settings.lr_decay == "none" else math.sqrt(self.windows.cursor.epochs_done + 1)
        return self.settings.lr / decay

    def train(self) -> None:
        """Train until the budget is spent, evaluating and storing on the way."""
        for note in getattr(self.task, "notes", ()):
            self.log.info("data, %s", note)
        self._resume()
        self.directory.set_status(schema.RUNNING, epoch=self.windows.epoch, first_epoch=self.windows.epoch)
        self._evaluate_if_due()
        while not self.settings.budget_spent(self.windows.epoch, self.train_seconds):
            self._advance()
            self._pause()
            self._evaluate_if_due()
        if self.sums["steps"]:
            # The budget ends between two evaluations. A longer one would not evaluate here: the checkpoint before
            # this evaluation is the last, and a run that continues from it drops what the evaluation stored.
            self._checkpoint()
            self._evaluate()
        self.directory.finish(**self._progress())
        self.log.info("finished: %.3g epochs, %d updates, %.1f s", self.windows.epoch, self.updates, self.train_seconds)

    def _evaluate_if_due(self) -> None:
        if self.windows.step < self.next_evaluation:
            return
        if time.monotonic() - self.last_checkpoint > EVALUATION_SECONDS:
            self._checkpoint()  # the evaluation may take long
        self._evaluate()
        self.next_evaluation = next_due(self.windows.step, self.settings.evaluate_every, self.epoch_steps)
        self.sums = self._zero_sums()
        self._checkpoint()

    def _pause(self) -> None:
        """Between two windows: tell how far the run is, and store a checkpoint where it is time or asked for.

        Raises:
            StoppedError: the process was told to end.
        """
        now = time.monotonic()
        if now - self.last_beat > HEARTBEAT_SECONDS:
            self._check_finite()
            self._beat()
        if self.signals.ending or self.signals.storing or now - self.last_checkpoint > CHECKPOINT_SECONDS:
            self.signals.storing = False
            self._checkpoint()
        self._obey()

    def _pause_in_evaluation(self) -> None:
        """Within an evaluation, which changes nothing of the run until it is stored: it can be given up."""
        if time.monotonic() - self.last_beat > HEARTBEAT_SECONDS:
            self._beat()
        if self.signals.ending:
            self._checkpoint()  # the evaluation is made anew
        self._obey()

    def _obey(self) -> None:
        if self.signals.ending:
            self._beat()
            raise StoppedError(f"{self.signals.ending.name} at epoch {self.windows.epoch:.3g}")

    def _advance(self) -> None:
        """One window, one update."""
        began, step_before = time.perf_counter(), self.windows.step
        window = next(iter(self.windows))
        lr = window_lr(self.decayed_lr, self.settings.lr_scaling, self.policy, self.settings.scheme, window.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        objective = window.loss(self.steps_at_once)
        clip = self.settings.clip_norm
        norm = step(self.model, self.optimizer, objective, None if clip is None else clip / window.losses)
        self._count(window, norm, self.windows.step - step_before)
        spent = time.perf_counter() - began
        self.train_seconds += spent
        self.sums["seconds"] += spent

    def _count(self, window: StreamWindow, norm: Tensor | None, steps: int) -> None:
        self.updates += 1
        sums = self.sums
        sums["loss"].add_(window.mean_loss, alpha=window.losses)  # stays on the device: no wait for the GPU
        sums["losses"] += window.losses
        if norm is not None:
            sums["norm"].add_(norm)
        sums["updates"] += 1
        sums["steps"] += steps
        sums["K"] += window.K

    def _check_finite(self) -> None:
        """Raise a `DivergedError` where training is no longer finite."""
        began = time.perf_counter()
        total = float(self.sums["loss"])  # waits for a GPU to finish what training gave it to do
        waited = time.perf_counter() - began
        self.train_seconds += waited
        self.sums["seconds"] += waited
        # Clipped, a gradient of infinite norm is no gradient at all: nothing would move, and nothing tell.
        for what, value in (("loss", total), ("gradient's norm", float(self.sums["norm"]))):
            if not math.isfinite(value):
                raise self._diverged(f"the training {what} is")

    def _check_parameters(self) -> None:
        """Raise a `DivergedError` where a parameter is not finite, which the loss tells one window later."""
        for name, parameter in self.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise self._diverged(f"{name} of the model is")

    def _diverged(self, what: str) -> DivergedError:
        clip = "null" if self.settings.clip_norm is None else f"{self.settings.clip_norm:g}"
        return DivergedError(
            f"{what} not finite after {self.updates} updates (epoch {self.windows.epoch:.3g}); "
            f"a lower lr (={self.settings.lr:g}) or clip_norm (={clip}) may help"
        )

    def _evaluate(self) -> None:
        """Log all metrics at the present parameters."""
        self._check_finite()
        self._check_parameters()
        seed_global("evaluation", self.settings.seed, self.windows.step)
        values: list[tuple[str, int, float]] = []
        if self.sums["losses"]:
            values.append(("train_loss", 0, float(self.sums["loss"]) / self.sums["losses"]))
            values.append(("steps_per_second", 0, self.sums["steps"] / max(self.sums["seconds"], 1e-9)))
            values.append(("mean_K", 0, self.sums["K"] / self.sums["updates"]))
            if self.settings.clip_norm is not None:
                values.append(("grad_norm", 0, float(self.sums["norm"]) / self.sums["updates"]))
        for split in ("valid", "test"):
            found = evaluate(self.model, self.task, getattr(self.task, split), self._pause_in_evaluation)
            values += [(f"{split}_{name}", 0, value) for name, value in found.items()]
        K = self.windows.cursor.K
        values += [("K", 0, K), ("lr", 0, full_lr(self.decayed_lr, self.settings.lr_scaling, self.policy, K))]
        measurements = self.prober.measure(
            self.model, self.task.loss, self.task.train, "evaluation", self.windows.step, measured=True, resampled=True
        )
        values += bias_metrics(measurements, K)
        found = {metric: value for metric, replicate, value in values if replicate == 0}
        if self.best.get("metric") != self.monitor:  # none yet, or the run continues with another
            self.best = {"metric": self.monitor, "value": math.inf, "epoch": 0.0}
        now = self.windows.step, self.windows.epoch
        if found[self.monitor] < self.best["value"]:
            self.best.update(value=found[self.monitor], epoch=self.windows.epoch)
            self.directory.replace_predictions(predict(self.model, self.task), *now)
        self.directory.add_metrics(
            {
                "step": self.windows.step,
                "epoch": self.windows.epoch,
                "adaptive_epoch": self.windows.adaptive_epoch,
                "updates": self.updates,
                "train_seconds": self.train_seconds,
            },
            values,
        )
        probe = self.settings.probe
        self.directory.add_gradients(lag_profiles(measurements, probe.average), *now)
        self.directory.add_positions(position_profiles(measurements, probe.loss_positions, probe.average), *now)
        shown = (f"{name} {value:.4g}" for name, value in found.items() if not name.endswith(("_low", "_high")))
        self.log.info("epoch %.3g: %s", self.windows.epoch, ", ".join(shown))
        self._beat()

    def _beat(self) -> None:
        """Tell whoever watches how far the run is."""
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
            "device": str(self.device),
        }

    def _checkpoint(self) -> None:
        """Store where the run is, if that is worth going on from: what was stored before stays otherwise."""
        self._check_finite()
        self._check_parameters()
        self.directory.save_checkpoint(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                **self.windows.saved(),
                **{name: getattr(self, name) for name in RESUMED},
            }
        )
        self.last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        """Take up the run where its checkpoint left it."""
        saved = self.directory.load_checkpoint(self.log)
        if saved is None:
            return
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.windows.restore(saved)
        for name in RESUMED:
            setattr(self, name, saved[name])
        self.sums.setdefault("K", math.nan if self.sums["updates"] else 0)  # earlier versions do not tell
        self.sums["loss"], self.sums["norm"] = (self.sums[name].to(self.device) for name in ("loss", "norm"))
        self.log.info("continues from its checkpoint at epoch %.3g", self.windows.epoch)
