"""A run that ends early goes on exactly: what its checkpoints hold, and when they are stored."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from atbptt.config.settings import Settings
from atbptt.runs import checkpoints, schema
from atbptt.runs.directory import RunDirectory
from atbptt.system.signals import ENDING, STORING, Signals, StoppedError
from atbptt.training.experiment import build, run
from atbptt.training.trainer import Trainer
from atbptt.truncation import Fixed, Probe, Progress
from tests.helpers.training import (
    ADAPTIVE,
    DRAWING,
    InterruptedTrainingError,
    check_same,
    interrupt_after,
    metrics,
    series,
)

Make = Callable[..., Settings]


@pytest.mark.parametrize(("updates", "checkpoint"), [(0, False), (3, True), (9, False), (11, True)])
def test_a_run_continued_from_its_checkpoint_is_the_run_that_was_not_interrupted(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, updates: int, checkpoint: bool
) -> None:
    whole = run(settings(*ADAPTIVE))
    broken = settings(*ADAPTIVE, f"output_dir={tmp_path}/broken")
    with monkeypatch.context() as patch:
        interrupt_after(patch, updates, checkpoint)
        with pytest.raises(InterruptedTrainingError):
            run(broken)
    assert RunDirectory(broken).status()["state"] == "failed"
    check_same(whole, run(broken))


@pytest.mark.parametrize(
    "policy",
    [*DRAWING, ("warmup", "truncation.epochs=1.5"), ("full", "truncation.window=25")],
    ids=lambda policy: policy[0],
)
def test_a_run_of_any_policy_continues_as_exactly(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: tuple[str, ...]
) -> None:
    name, *options = policy
    chosen = (f"truncation={name}", *options, "scheme=tf", "model.dropout=0.3", "optimizer=momentum")
    whole = run(settings(*chosen))
    broken = settings(*chosen, f"output_dir={tmp_path}/broken")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, checkpoint=True)
        with pytest.raises(InterruptedTrainingError):
            run(broken)
    check_same(whole, run(broken))


@pytest.mark.parametrize(("updates", "mean_K"), [(6, [10, 10]), (9, [10, math.nan])], ids=["between epochs", "within"])
def test_a_checkpoint_of_an_earlier_version_continues_and_knows_no_mean_K(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, updates: int, mean_K: list[float]
) -> None:
    """It lacks the sum of K, and has the state that ended the pass before where a new one begins."""
    whole, broken = run(settings()), settings(f"output_dir={tmp_path}/broken")
    save = RunDirectory.save_checkpoint

    def as_earlier(self: RunDirectory, saved: dict[str, Any]) -> None:
        sums = {name: value for name, value in saved["sums"].items() if name != "K"}
        state = (torch.ones(1, 4, 6), torch.ones(1, 4, 6)) if saved["position"] == 0 else saved["state"]
        save(self, {**saved, "sums": sums, "state": state})

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save_checkpoint", as_earlier)
        interrupt_after(patch, updates, checkpoint=True)
        with pytest.raises(InterruptedTrainingError):
            run(broken)
    continued = run(broken)
    assert series(continued, "valid_loss") == series(whole, "valid_loss")
    np.testing.assert_equal(series(continued, "mean_K"), mean_K)


@pytest.mark.parametrize("dataset", ["text", "events"])
def test_a_run_on_files_continues_as_exactly(
    settings: Make, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    """From the middle of an epoch; text also where its cache is gone meanwhile."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("ATBPTT_CACHE", str(cache))
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("one two three four\n" * 30)
        (tmp_path / f"event-{split}.txt").write_text("1 2 1 3 2\n2 2 1\n" * 30)
        (tmp_path / f"time-{split}.txt").write_text("0 0.5 0.5 2 2.25\n1 3 4\n" * 30)
    model = {"text": ("model.embedding=6", "model.tied=true"), "events": ("model=point_process", "model.embedding=3")}
    size = tuple(option for option in tiny if not option.startswith("dataset."))
    data = (f"dataset={dataset}", f"dataset.path={tmp_path}", "dataset.batch_size=4", *model[dataset])
    whole = run(settings(*ADAPTIVE, *data, size=size))
    broken = settings(*ADAPTIVE, *data, f"output_dir={tmp_path}/broken", size=size)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3, checkpoint=True)
        with pytest.raises(InterruptedTrainingError):
            run(broken)
    shutil.rmtree(cache, ignore_errors=True)
    check_same(whole, run(broken))


@pytest.mark.parametrize("method", ["replace_predictions", "add_metrics", "add_gradients", "add_positions"])
def test_an_evaluation_that_is_cut_short_is_made_again_and_stored_once(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Ends right after one of the files of the second evaluation, a checkpoint of the same step before it."""
    whole = run(settings(*ADAPTIVE))
    broken = settings(*ADAPTIVE, f"output_dir={tmp_path}/broken")
    store, calls = getattr(RunDirectory, method), []

    def interrupted(self: RunDirectory, *arguments: object) -> None:
        store(self, *arguments)
        calls.append(arguments)
        if len(calls) == 2:
            raise InterruptedTrainingError

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, method, interrupted)
        patch.setattr("atbptt.training.trainer.CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(InterruptedTrainingError):
            run(broken)
    check_same(whole, run(broken))


def test_an_extended_run_that_is_interrupted_keeps_no_row_of_the_shorter_budget(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(settings(*ADAPTIVE, "epochs=3"))
    steps = (*ADAPTIVE, f"output_dir={tmp_path}/steps")
    done = run(settings(*steps, "epochs=1.3"))
    with monkeypatch.context() as patch:
        patch.setattr("atbptt.training.trainer.CHECKPOINT_SECONDS", 0.0)
        interrupt_after(patch, 2 + int(metrics(done)["updates"].max()), checkpoint=True)
        with pytest.raises(InterruptedTrainingError):
            run(settings(*steps, "epochs=3"))
    check_same(whole, run(settings(*steps, "epochs=3")))


@pytest.mark.parametrize("short", [1.0, 1.3])
def test_raising_epochs_extends_a_run_as_if_asked_for_at_once(settings: Make, tmp_path: Path, short: float) -> None:
    whole = run(settings(*ADAPTIVE, "epochs=3"))
    assert not RunDirectory(settings(*ADAPTIVE, f"output_dir={tmp_path}/steps", f"epochs={short}")).finished()
    run(settings(*ADAPTIVE, f"output_dir={tmp_path}/steps", f"epochs={short}"))
    extended = run(settings(*ADAPTIVE, f"output_dir={tmp_path}/steps", "epochs=3"))
    check_same(whole, extended)


def test_a_run_that_an_earlier_version_finished_is_looked_over_once_and_loses_nothing(settings: Make) -> None:
    """Its files knew of no positions and no predictions: nothing is trained or evaluated again, and none are made."""
    directory = run(settings())
    new = (schema.POSITIONS, schema.PREDICTIONS)
    for name in (schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT):
        state = torch.load(directory.path / name)
        kept = {table: content for table, content in state.pop("tables").items() if table not in new}
        checkpoints.save(directory.path, {**state, "tables": kept})
    status = directory.status()
    for name in new:
        (directory.path / name).unlink()
        del status["files"][name]
    (directory.path / schema.STATUS).write_text(json.dumps(status))
    before = {name: (directory.path / name).read_bytes() for name in (schema.METRICS, schema.GRADIENTS)}
    assert not directory.finished()
    again = run(settings())
    assert "continues from its checkpoint at epoch 2" in (directory.path / schema.LOG).read_text()
    assert again.finished()
    assert {name: (directory.path / name).read_bytes() for name in before} == before
    assert not any((directory.path / name).exists() for name in new)
    run(settings("epochs=3"))
    assert set(pq.read_table(directory.path / schema.POSITIONS)["step"].to_pylist()) == {180}


def test_checkpoints_come_between_evaluations_too(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far apart evaluations are, little work is lost."""
    monkeypatch.setattr("atbptt.training.trainer.CHECKPOINT_SECONDS", 0.0)
    steps = []
    made = settings("epochs=1", "truncation.K=10")
    directory = RunDirectory(made)
    directory.path.mkdir(parents=True)
    monkeypatch.setattr(directory, "save_checkpoint", lambda state: steps.append(state["position"]))
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(directory.logging())
        assert isinstance(log, logging.Logger)
        Trainer(made, build(made), directory, torch.device("cpu"), log, Signals()).train()
    assert {10, 20, 30, 40, 50} <= set(steps)


def signal_after(monkeypatch: pytest.MonkeyPatch, updates: int, number: signal.Signals, evaluating: bool) -> None:
    """Send the process a signal once so many updates are done: between two windows, or within the next evaluation."""
    name = "_pause_in_evaluation" if evaluating else "_pause"
    pause = getattr(Trainer, name)
    sent = []

    def signalled(self: Trainer) -> None:
        if self.updates >= updates and not sent:
            sent.append(number)
            signal.raise_signal(number)
        pause(self)

    monkeypatch.setattr(Trainer, name, signalled)


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("evaluating", [False, True])
def test_a_run_that_is_told_to_end_stores_a_checkpoint_and_continues_exactly(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, evaluating: bool
) -> None:
    """An evaluation is given up and made anew; the signal's handler is what it was."""
    whole = run(settings(*ADAPTIVE))
    stopped = settings(*ADAPTIVE, f"output_dir={tmp_path}/stopped")
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_after(patch, 7, number, evaluating)
        with pytest.raises(StoppedError, match=rf"^{number.name} at epoch "):
            run(stopped)
    assert signal.getsignal(number) is before
    directory = RunDirectory(stopped)
    status = directory.status()
    assert status["state"] == "interrupted"
    assert torch.load(directory.path / schema.CHECKPOINT)["updates"] >= 7
    assert not (directory.path / schema.TRACEBACK).exists()
    check_same(whole, run(stopped))


@pytest.mark.parametrize("number", STORING)
def test_a_run_that_is_asked_for_a_checkpoint_stores_one_and_goes_on(
    settings: Make, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    stored: list[int] = []
    save = RunDirectory.save_checkpoint

    def note(self: RunDirectory, state: dict[str, object]) -> None:
        stored.append(int(state["updates"]))  # type: ignore[call-overload]
        save(self, state)

    monkeypatch.setattr(RunDirectory, "save_checkpoint", note)
    signal_after(monkeypatch, 4, number, evaluating=False)
    directory = run(settings("epochs=1"))
    assert directory.status()["state"] == "finished"
    assert stored == [0, 4, 6]


def test_what_a_users_own_classes_draw_from_global_generators_is_resumed_too(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that draws from Python's and numpy's: from a checkpoint, from the start, after other draws."""
    drawn: list[tuple[int, float, float]] = []
    update = Fixed.update

    def draw(self: Fixed, progress: Progress, probe: Probe) -> None:
        drawn.append((progress.step, random.random(), float(np.random.random())))  # noqa: NPY002
        update(self, progress, probe)

    monkeypatch.setattr(Fixed, "update", draw)
    run(settings())
    whole, drawn[:] = list(drawn), []
    random.random()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 7, checkpoint=True)
        with pytest.raises(InterruptedTrainingError):
            run(settings(f"output_dir={tmp_path}/broken"))
    np.random.random()  # noqa: NPY002
    run(settings(f"output_dir={tmp_path}/broken"))
    assert drawn == whole


def test_little_work_is_lost_in_a_long_evaluation(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done since the last checkpoint is stored before an evaluation begins."""
    monkeypatch.setattr("atbptt.training.trainer.EVALUATION_SECONDS", 0.0)
    events: list[str] = []
    save = RunDirectory.save_checkpoint
    monkeypatch.setattr(
        RunDirectory, "save_checkpoint", lambda self, state: (events.append("store"), save(self, state))
    )
    monkeypatch.setattr(
        "atbptt.training.trainer.evaluate", lambda *_: (events.append("evaluate"), {"ppl": 1.0, "loss": 0.0})[1]
    )
    run(settings("epochs=1"))
    assert events == [*["store", "evaluate", "evaluate", "store"] * 2]
