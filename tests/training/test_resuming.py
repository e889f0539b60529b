"""A run that ends early goes on exactly: what its checkpoints hold, and when they are stored."""

import io
import json
import math
import random
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from atbptt.config.settings import Settings
from atbptt.runs import checkpoints, read_run, result_text, schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.tables import Tables, read_options, serialised
from atbptt.system.signals import STORING, StoppedError
from atbptt.training.experiment import run
from atbptt.training.stored_model import open_stored_model
from atbptt.training.trainer import Trainer
from atbptt.truncation import Fixed, Probe, Progress
from tests.helpers.spoiling import sparse
from tests.helpers.training import (
    ADAPTIVE,
    DRAWING,
    InterruptedTrainingError,
    check_same,
    composed,
    metrics,
    parameters,
    run_interrupted,
    score,
    series,
)

Make = Callable[..., Settings]
Patch = pytest.MonkeyPatch
OTHERS = ("scheme=tf", "model.dropout=0.3", "optimizer=momentum")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that was not interrupted; the best of its evaluations, after 18 of 48 updates, is not its last."""
    directory = run(composed(tmp_path_factory.mktemp("whole"), *ADAPTIVE))
    assert directory.status()["best_epoch"] == 1
    return directory


@pytest.mark.parametrize(("updates", "checkpoint"), [(0, False), (3, True), (11, False), (20, False), (30, True)])
def test_a_run_continued_is_the_run_that_was_not_interrupted(
    whole: RunDirectory, settings: Make, updates: int, checkpoint: bool
) -> None:
    broken = settings(*ADAPTIVE)
    run_interrupted(broken, updates, checkpoint)
    assert RunDirectory(broken).status()["state"] == "failed"
    check_same(whole, run(broken))


@pytest.mark.parametrize(
    "policy",
    [
        *DRAWING,
        ("progress", "truncation.K_init=4", "truncation.K_max=6"),
        ("warmup", "truncation.epochs=1.5"),
        ("full", "truncation.window=25"),
    ],
    ids=lambda policy: policy[0],
)
def test_a_run_of_any_policy_continues_as_exactly(settings: Make, tmp_path: Path, policy: tuple[str, ...]) -> None:
    name, *options = policy
    chosen = (f"truncation={name}", *options, *OTHERS, "epochs=1.5")
    broken = settings(*chosen, f"output_dir={tmp_path}/broken")
    run_interrupted(broken, 4)
    check_same(run(settings(*chosen)), run(broken))


@pytest.mark.parametrize("updates", [6, 7, 20])
def test_a_run_whose_data_change_from_pass_to_pass_continues_as_exactly(
    settings: Make, tmp_path: Path, updates: int
) -> None:
    """Within a pass, and between two (6 updates), where the evaluation is of the pass that has ended."""
    chosen = ("dataset=copy_growing", "dataset.max_length=4", "dataset.growth=2", *ADAPTIVE)
    broken = settings(*chosen, f"output_dir={tmp_path}/broken")
    run_interrupted(broken, updates)
    check_same(run(settings(*chosen)), run(broken))


@pytest.mark.parametrize(("updates", "mean_K"), [(6, [10, 10]), (9, [10, math.nan])], ids=["between epochs", "within"])
def test_a_checkpoint_of_an_earlier_version_continues(
    settings: Make, tmp_path: Path, monkeypatch: Patch, updates: int, mean_K: list[float]
) -> None:
    """It lacks the sum of K, computing time and costs; and where a pass begins, the state before it."""
    uninterrupted, broken = run(settings()), settings(f"output_dir={tmp_path}/broken")
    save = RunDirectory.save_checkpoint

    def as_earlier(self: RunDirectory, saved: dict[str, Any]) -> None:
        saved = {name: value for name, value in saved.items() if name not in ("compute_seconds", "costs")}
        sums = {name: value for name, value in saved["sums"].items() if name not in ("K", "compute_seconds")}
        rows = pq.read_table(io.BytesIO(self.tables.content[schema.METRICS]))
        kept = [name for name in rows.schema.names if name != "compute_seconds"]
        self.tables.content[schema.METRICS] = serialised(rows.select(kept))
        state = (torch.ones(1, 4, 6), torch.ones(1, 4, 6)) if saved["position"] == 0 else saved["state"]
        save(self, {**saved, "sums": sums, "state": state})

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save_checkpoint", as_earlier)
        run_interrupted(broken, updates)
    continued = run(broken)
    assert series(continued, "valid_loss") == series(uninterrupted, "valid_loss")
    np.testing.assert_equal(series(continued, "mean_K"), mean_K)
    frame = pq.read_table(continued.path / schema.METRICS).to_pandas()
    assert frame["compute_seconds"].isna().all()
    spent = frame.loc[(frame["metric"] == "processor_seconds") & (frame["step"] > 60), "value"]
    assert spent.isna().tolist() == [True]
    speeds = frame.loc[frame["metric"] == "steps_per_compute_second", "value"]
    np.testing.assert_equal(speeds.isna().tolist(), np.isnan([0, *mean_K[1:]]).tolist())


def test_a_checkpoint_that_version_0_2_0_wrote_continues_as_if_this_one_had_begun_the_run(
    settings: Make, tmp_path: Path
) -> None:
    """Within its second pass, after two of the policy's updates, which were as now with `as_published`."""
    old = Path(__file__).parent / "run_0.2.0"
    stored = checkpoints.read_checkpoint(old / schema.CHECKPOINT)
    assert schema.ID not in stored
    assert stored["policy"]["K"] == 8  # of 10; begun anew, the policy would take 9
    chosen = (*ADAPTIVE, "truncation.max_factor=1.1", "truncation.as_published=true")
    uninterrupted = run(settings(*chosen))
    continued = RunDirectory(settings(*chosen, f"output_dir={tmp_path}/continued"))
    continued.make()
    for file in old.iterdir():
        shutil.copy(file, continued.path)
    assert open_stored_model(continued.path).step == 68
    assert run(continued.settings).finished()
    assert "continues from its checkpoint at epoch 1.13" in (continued.path / schema.LOG).read_text()
    for metric in ("K", "mean_K", "train_loss", "valid_loss", "test_loss"):
        assert series(continued, metric) == pytest.approx(series(uninterrupted, metric), rel=1e-4), metric
    for name, values in parameters(continued).items():  # it was stored on another machine, which rounds otherwise
        torch.testing.assert_close(values, parameters(uninterrupted)[name], rtol=1e-3, atol=1e-3)


def test_a_budget_in_seconds_counts_those_before_the_checkpoint(settings: Make) -> None:
    broken = settings("truncation.K=10")
    run_interrupted(broken, 9)
    path = RunDirectory(broken).path
    saved = checkpoints.read_checkpoint(path / schema.CHECKPOINT)
    assert 0 < saved["train_seconds"] < 1000
    checkpoints.save(path, {**saved, "train_seconds": 1000.0})
    assert metrics(run(settings("truncation.K=10", "seconds=1000")))["updates"].max() == 9


def test_the_computing_time_goes_on_where_it_was(settings: Make) -> None:
    broken = settings("truncation.K=10")
    run_interrupted(broken, 9)
    saved = checkpoints.read_checkpoint(RunDirectory(broken).path / schema.CHECKPOINT)
    assert 0 < saved["sums"]["compute_seconds"] < saved["compute_seconds"]
    frame = pq.read_table(run(broken).path / schema.METRICS).to_pandas()
    assert frame["compute_seconds"].iloc[-1] > saved["compute_seconds"]
    spent = frame.loc[frame["metric"] == "processor_seconds", "value"].iloc[-1]
    assert spent > saved["costs"]["processor_seconds"] > saved["compute_seconds"]


@pytest.mark.parametrize("name", [schema.PREDICTIONS, schema.POSITIONS])
def test_an_evaluation_cut_short_is_made_again(
    whole: RunDirectory, settings: Make, monkeypatch: Patch, name: str
) -> None:
    """Ends right after one of the files of the second evaluation, a checkpoint of the same step before it."""
    store, calls = Tables.add, []

    def interrupted(self: Tables, table: str, columns: Mapping[str, Any], clock: Mapping[str, float]) -> None:
        store(self, table, columns, clock)
        calls.append(table)
        if calls.count(name) == 2:
            raise InterruptedTrainingError

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "add", interrupted)
        patch.setattr("atbptt.training.trainer.CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(InterruptedTrainingError):
            run(settings(*ADAPTIVE))
    check_same(whole, run(settings(*ADAPTIVE)))


def test_raising_epochs_extends_a_run_as_if_asked_for_at_once(
    whole: RunDirectory, settings: Make, monkeypatch: Patch
) -> None:
    """No row of the shorter budget's last evaluation is kept, nor its model as the best."""
    done = run(settings(*ADAPTIVE, "epochs=1.3"))
    assert done.finished()
    checkpoints.save(done.path, {"best": {"epoch": 1.3}}, schema.BEST, schema.PREVIOUS_BEST)
    assert not RunDirectory(settings(*ADAPTIVE)).finished()
    with monkeypatch.context() as patch:
        patch.setattr("atbptt.training.trainer.CHECKPOINT_SECONDS", 0.0)
        run_interrupted(settings(*ADAPTIVE), 2 + int(metrics(done)["updates"].max()))
    check_same(whole, run(settings(*ADAPTIVE)))


VALUES = (9, 5, 6, 7, 4, 5, 6, 6, 6)  # of validations after so many epochs
PLATEAU = ("lr_decay=plateau", "lr=16", "lr_scaling=none", "truncation.K=10", "epochs=4")


@pytest.mark.parametrize(("updates", "checkpoint"), [(4, True), (12, False), (15, True), (15, False), (18, True)])
def test_a_run_whose_rate_depends_on_its_validations_continues_exactly(
    settings: Make, tmp_path: Path, monkeypatch: Patch, updates: int, checkpoint: bool
) -> None:
    """Between two evaluations and right after one."""
    score(monkeypatch, *VALUES)
    whole, broken = run(settings(*PLATEAU)), settings(*PLATEAU, f"output_dir={tmp_path}/broken")
    assert series(whole, "lr") == [16, 16, 4, 1, 1]
    run_interrupted(broken, updates, checkpoint)
    check_same(whole, run(broken))


def test_the_last_validation_of_a_shorter_budget_lowers_no_rate(
    settings: Make, tmp_path: Path, monkeypatch: Patch
) -> None:
    score(monkeypatch, *VALUES)
    whole, short = run(settings(*PLATEAU)), (*PLATEAU, f"output_dir={tmp_path}/short")
    assert series(run(settings(*short, "epochs=2.5")), "lr") == [16, 16, 4, 1]
    check_same(whole, run(settings(*short)))


def test_patience_ends_a_run_and_more_of_it_continues_it_exactly(
    settings: Make, tmp_path: Path, monkeypatch: Patch
) -> None:
    score(monkeypatch, *VALUES)

    def asked(folder: str, *patience: str) -> Settings:
        return settings(*PLATEAU, "epochs=8", f"output_dir={tmp_path}/{folder}", *patience)

    done = run(asked("a", "patience=2"))
    assert done.status()["epoch"] == 3  # the best was after 1 epoch
    assert "no better valid_ppl for 2 epochs, which ends the run (patience)" in (done.path / schema.LOG).read_text()
    assert result_text(read_run(done.path)) == "epoch 3 of 8, no better for 2, K 10, valid_ppl 5 at epoch 1"
    assert read_options(done.path / schema.OPTIONS)[schema.ENDED_BY] == "patience"
    for patience, finished in (("2", True), ("1", True), ("2.5", False), ("null", False)):
        assert RunDirectory(asked("a", f"patience={patience}")).finished() == finished
    for patience, epoch in (("3", 7), ("null", 8)):
        longer = run(asked("a", f"patience={patience}"))
        assert longer.status()["epoch"] == epoch
        check_same(run(asked(patience, f"patience={patience}")), longer)
    assert schema.ENDED_BY not in read_options(longer.path / schema.OPTIONS)


def test_patience_is_counted_without_rounding(settings: Make, monkeypatch: Patch) -> None:
    """From the best, at epoch 0.4, to 0.7, whose difference is less than 0.3 in floating point."""

    def evaluate(*given: Any) -> dict[str, float]:
        return {"ppl": 5 + abs(given[-1].func.__self__.windows.epoch - 0.4), "loss": 1.0}

    monkeypatch.setattr("atbptt.training.trainer.evaluate", evaluate)
    done = run(settings("patience=0.3", "evaluate_every=0.1", "truncation.K=3", "epochs=2"))
    assert (done.status()["best_epoch"], done.status()["epoch"], done.status()["waited"]) == (0.4, 0.7, 0.3)


def test_patience_ends_a_run_at_an_evaluation_that_is_due(settings: Make, monkeypatch: Patch) -> None:
    """Not between two, nor at the one where another budget ends."""
    score(monkeypatch, *VALUES)
    assert run(settings("patience=1.5", "epochs=2.75")).status()["epoch"] == 170 / 60
    longer = settings("patience=1.5", "epochs=9")
    assert not RunDirectory(longer).finished()
    assert run(longer).status()["epoch"] == 3


def test_a_run_killed_when_its_patience_has_ended_trains_no_more(
    settings: Make, tmp_path: Path, monkeypatch: Patch
) -> None:
    score(monkeypatch, *VALUES)
    asked = ("patience=2", "epochs=9")
    whole, broken = run(settings(*asked)), settings(*asked, f"output_dir={tmp_path}/broken")
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "finish", Mock(side_effect=InterruptedTrainingError))
        with pytest.raises(InterruptedTrainingError):
            run(broken)
    check_same(whole, run(broken))


def other_model(path: Path) -> None:
    state = checkpoints.read_checkpoint(path)
    checkpoints.save(path.parent, {**state, "model": {"other": torch.zeros(1)}})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            other_model,
            checkpoints.CheckpointError,
            r"checkpoint.pt does not fit the run, whose classes may have changed: RuntimeError: .*; move its folder",
        ),
        (sparse, OSError, "has 8,000,000,000,000 bytes, needs about"),
    ],
)
def test_a_finished_run_that_cannot_be_extended_stays_finished(
    settings: Make, change: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    directory = run(settings())
    change(directory.path / schema.CHECKPOINT)
    before = {path.name: path.read_bytes() for path in directory.path.glob("*.*") if path.name != schema.CHECKPOINT}
    with pytest.raises(error, match=message):
        run(settings("epochs=3"))
    assert {name: (directory.path / name).read_bytes() for name in before} == before
    assert directory.finished()


def test_a_run_that_an_earlier_version_finished_is_looked_over_once_and_loses_nothing(settings: Make) -> None:
    """Its files knew of no positions and no predictions: nothing is trained or evaluated again, and none are made."""
    directory = run(settings())
    new = (schema.POSITIONS, schema.PREDICTIONS)
    for name in (schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT):
        state = checkpoints.read_checkpoint(directory.path / name)
        kept = {table: content for table, content in state.pop("tables").items() if table not in new}
        checkpoints.save(directory.path, {**state, "tables": kept})
    status = directory.status()
    for name in new:
        (directory.path / name).unlink()
        del status["files"][name]
    (directory.path / schema.STATUS).write_text(json.dumps(status))
    before = {name: (directory.path / name).read_bytes() for name in (schema.METRICS, schema.GRADIENTS)}
    assert not directory.finished()
    assert run(settings()).finished()
    assert "continues from its checkpoint at epoch 2" in (directory.path / schema.LOG).read_text()
    assert {name: (directory.path / name).read_bytes() for name in before} == before
    assert not any((directory.path / name).exists() for name in new)
    run(settings("epochs=3"))
    assert set(pq.read_table(directory.path / schema.POSITIONS)["step"].to_pylist()) == {180}


@pytest.fixture
def events(monkeypatch: Patch) -> list[Any]:
    """The updates at which checkpoints are stored, and `evaluate` where an evaluation begins."""
    found: list[Any] = []
    save, evaluate = RunDirectory.save_checkpoint, Trainer._evaluate

    def saving(self: RunDirectory, state: dict[str, Any]) -> None:
        found.append(state["updates"])
        save(self, state)

    def evaluating(self: Trainer) -> None:
        found.append("evaluate")
        evaluate(self)

    monkeypatch.setattr(RunDirectory, "save_checkpoint", saving)
    monkeypatch.setattr(Trainer, "_evaluate", evaluating)
    return found


@pytest.mark.parametrize(
    ("waits", "stored"),
    [
        ({}, ["evaluate", 0, "evaluate", 6]),
        ({"CHECKPOINT_SECONDS": 0.0}, ["evaluate", 0, 1, 2, 3, 4, 5, 6, "evaluate", 6]),
        ({"EVALUATION_SECONDS": 0.0}, [0, "evaluate", 0, 6, "evaluate", 6]),
    ],
)
def test_little_work_is_lost(
    settings: Make, monkeypatch: Patch, events: list[Any], waits: dict[str, float], stored: list[Any]
) -> None:
    for name, seconds in waits.items():
        monkeypatch.setattr(f"atbptt.training.trainer.{name}", seconds)
    run(settings("epochs=1"))
    assert events == stored


def signal_after(monkeypatch: Patch, updates: int, number: signal.Signals, within: bool) -> None:
    """Send the process a signal once so many updates are done: between two windows, or within the next evaluation."""
    pause, sent = Trainer._pause, []

    def signalled(self: Trainer, evaluating: bool = False) -> None:
        if self.updates >= updates and evaluating == within and not sent:
            sent.append(number)
            signal.raise_signal(number)
        pause(self, evaluating)

    monkeypatch.setattr(Trainer, "_pause", signalled)


@pytest.mark.parametrize(("number", "evaluating"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_run_told_to_end_continues_exactly(
    whole: RunDirectory, settings: Make, monkeypatch: Patch, number: signal.Signals, evaluating: bool
) -> None:
    """An evaluation is given up and made anew; the signal's handler is what it was."""
    stopped = settings(*ADAPTIVE)
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_after(patch, 7, number, evaluating)
        with pytest.raises(StoppedError, match=rf"^{number.name} at epoch "):
            run(stopped)
    assert signal.getsignal(number) is before
    directory = RunDirectory(stopped)
    assert directory.status()["state"] == "interrupted"
    stored = checkpoints.read_checkpoint(directory.path / schema.CHECKPOINT)
    assert stored["updates"] >= 7
    assert directory.status()["epoch"] == stored["epochs_done"] + stored["position"] / 60
    assert not (directory.path / schema.TRACEBACK).exists()
    check_same(whole, run(stopped))


@pytest.mark.parametrize(("evaluating", "stored"), [(False, [0, 4, 6]), (True, [0, 6])])
def test_a_run_asked_for_a_checkpoint_stores_it_and_goes_on(
    settings: Make, monkeypatch: Patch, events: list[Any], evaluating: bool, stored: list[int]
) -> None:
    """In an evaluation it waits for the one at its end."""
    signal_after(monkeypatch, 4, STORING[evaluating], evaluating)
    assert run(settings("epochs=1")).status()["state"] == "finished"
    assert [event for event in events if event != "evaluate"] == stored


def test_draws_from_global_generators_are_resumed_too(settings: Make, tmp_path: Path, monkeypatch: Patch) -> None:
    """A policy that draws from Python's and numpy's: from a checkpoint, from the start, after other draws."""
    drawn: list[tuple[int, float, float]] = []
    update = Fixed.update

    def draw(self: Fixed, progress: Progress, probe: Probe) -> None:
        drawn.append((progress.step, random.random(), float(np.random.random())))  # noqa: NPY002
        update(self, progress, probe)

    monkeypatch.setattr(Fixed, "update", draw)
    run(settings())
    expected, drawn[:] = list(drawn), []
    random.random()
    run_interrupted(settings(f"output_dir={tmp_path}/broken"), 7)
    np.random.random()  # noqa: NPY002
    run(settings(f"output_dir={tmp_path}/broken"))
    assert drawn == expected
