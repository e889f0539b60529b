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
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from atbptt.config.settings import Settings
from atbptt.errors import ConfigError
from atbptt.runs import checkpoints, schema
from atbptt.runs.directory import RunDirectory
from atbptt.runs.provenance import Origin, code
from atbptt.system.signals import ENDING, STORING, StoppedError, Told
from atbptt.training.experiment import build, run
from atbptt.training.trainer import DivergedError, Trainer
from atbptt.truncation import Fixed, Probe, Progress
from atbptt.windows.schemes import SCHEMES

TIMES = {"train_seconds"}
TIMED_METRICS = {"steps_per_second"}
Make = Callable[..., Settings]


def metrics(directory: RunDirectory) -> pd.DataFrame:
    """All that a run measured, times aside."""
    frame = pq.read_table(directory.path / schema.METRICS).to_pandas().drop(columns=list(TIMES))
    return frame[~frame["metric"].isin(TIMED_METRICS)].reset_index(drop=True)


def parameters(directory: RunDirectory) -> dict[str, torch.Tensor]:
    return torch.load(directory.path / schema.CHECKPOINT)["model"]


def check_same(a: RunDirectory, b: RunDirectory) -> None:
    """Identical metrics, lag profiles, predictions and final parameters, bit for bit."""
    pd.testing.assert_frame_equal(metrics(a), metrics(b), check_exact=True)
    for name in (schema.GRADIENTS, schema.POSITIONS, schema.PREDICTIONS):
        ours, theirs = (pq.read_table(directory.path / name) for directory in (a, b))
        assert ours.equals(theirs), name
    for (name, of_a), of_b in zip(parameters(a).items(), parameters(b).values(), strict=True):
        assert torch.equal(of_a, of_b), name


def series(directory: RunDirectory, metric: str) -> list[float]:
    frame = metrics(directory)
    return frame.loc[frame["metric"] == metric, "value"].tolist()


ADAPTIVE = ("truncation=adaptive", "truncation.update_every=0.4", "model.dropout=0.3", "optimizer=momentum")


def test_the_same_config_gives_the_same_bits(settings: Make, tmp_path: Path) -> None:
    first = run(settings(*ADAPTIVE))
    # What ran before in the same process must not matter.
    run(settings("seed=7", "model=gru"))
    second = run(settings(*ADAPTIVE, f"output_dir={tmp_path}/again"))
    assert first.path != second.path
    check_same(first, second)


class InterruptedTrainingError(Exception):
    pass


def interrupt_after(monkeypatch: pytest.MonkeyPatch, updates: int, checkpoint: bool) -> None:
    """End training after so many updates, with or without a checkpoint just before."""
    advance = Trainer._advance

    def interrupted(self: Trainer) -> None:
        if self.updates == updates:
            if checkpoint:
                self._checkpoint()
            raise InterruptedTrainingError
        advance(self)

    monkeypatch.setattr(Trainer, "_advance", interrupted)


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


DRAWING = ("variable", "truncation.base=6"), ("randomized", "truncation.length=6")


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


@pytest.mark.parametrize("policy", DRAWING, ids=lambda policy: policy[0])
def test_what_a_policy_draws_depends_on_the_seed_and_its_lr_not_on_what_is_drawn(
    settings: Make, policy: tuple[str, ...]
) -> None:
    name, *options = policy
    first, other = (run(settings(f"truncation={name}", *options, "scheme=tf", f"seed={seed}")) for seed in (0, 1))
    assert series(first, "mean_K") != series(other, "mean_K")
    assert set(series(first, "lr")) == {6**0.5}


def test_mean_K_is_of_the_windows_since_the_last_evaluation(settings: Make) -> None:
    """K grows by a step every two steps of the stream, from 2 to 32 in the 60 steps of an epoch."""
    chosen = ("truncation=warmup", "truncation.K_init=2", "truncation.K_final=32", "truncation.epochs=1")
    lengths, step = [], 0
    while step < 60:
        lengths.append(2 + step // 2)
        step += lengths[-1]
    assert series(run(settings(*chosen, "scheme=tf")), "mean_K") == [pytest.approx(sum(lengths) / len(lengths)), 32]


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


def test_a_finished_run_is_left_alone(settings: Make) -> None:
    directory = run(settings())
    before = {file.name: file.stat().st_mtime_ns for file in directory.path.iterdir()}
    run(settings())
    assert {file.name: file.stat().st_mtime_ns for file in directory.path.iterdir()} == before


def test_evaluations_fall_on_their_schedule_and_at_the_end(settings: Make) -> None:
    frame = metrics(run(settings("epochs=1.4", "evaluate_every=0.5", "truncation.K=3")))
    assert sorted(set(frame["step"])) == [0, 30, 60, 84]
    assert sorted(set(frame["epoch"])) == [0, 0.5, 1, 1.4]


def test_a_schedule_in_decimal_fractions_of_an_epoch_skips_no_evaluation(settings: Make) -> None:
    frame = metrics(run(settings("epochs=1", "evaluate_every=0.2", "truncation.K=6")))
    assert sorted(set(frame["step"])) == [0, 12, 24, 36, 48, 60]


def test_every_evaluation_logs_every_metric_whatever_the_policy(settings: Make) -> None:
    for policy in ("fixed", "adaptive"):
        frame = metrics(run(settings(f"truncation={policy}", "probe.probes=2")))
        last = frame[frame["epoch"] == 2]
        lengths = {f"K_{delta}{kind}" for delta in ("1", "0.9", "0.5", "0.1") for kind in ("", "_measured")}
        assert set(last["metric"]) == {
            "train_loss", "valid_loss", "valid_ppl", "test_loss", "test_ppl", "grad_norm", "K", "mean_K", "lr",
            "log_relative_bias", "log_relative_bias_measured", "log_beta", "gradient_cosine",
            *lengths, *(f"{length}{end}" for length in lengths for end in ("_low", "_high")),
        }  # fmt: skip
        assert (last["metric"] == "log_relative_bias").sum() == 2
        ppl, loss = (last.loc[last["metric"] == f"valid_{name}", "value"].item() for name in ("ppl", "loss"))
        assert ppl == pytest.approx(math.exp(loss))


def test_adaptive_epochs_count_what_the_policys_probes_read(settings: Make) -> None:
    fixed = metrics(run(settings()))
    assert (fixed["adaptive_epoch"] == fixed["epoch"]).all()
    adaptive = metrics(run(settings("truncation=adaptive", "truncation.update_every=0.5", "probe.probes=2")))
    last = adaptive[adaptive["epoch"] == 2].iloc[0]
    assert last["adaptive_epoch"] == pytest.approx(2 + 3 * 2 * (4 + 12) / 60)  # at 0.5, 1 and 1.5


def test_the_same_init_starts_all_policies_from_the_same_parameters(settings: Make) -> None:
    def initial(*overrides: str) -> torch.Tensor:
        return build(settings(*overrides)).model.decoder.weight  # type: ignore[union-attr,return-value]

    assert torch.equal(initial(), initial("truncation=adaptive", "lr=3", "seed=4", "scheme=tf"))
    assert not torch.equal(initial(), initial("init=1"))


@pytest.mark.parametrize(
    ("lr_scaling", "lr_decay", "expected"),
    [("none", "none", [2, 2, 2]), ("sqrt", "none", [6, 6, 6]), ("linear", "inverse_sqrt", [18, 12.73, 10.39])],
)
def test_lr_scales_with_K_and_decays_with_epochs(
    settings: Make, lr_scaling: str, lr_decay: str, expected: list[float]
) -> None:
    made = settings("lr=2", "truncation.K=9", f"lr_scaling={lr_scaling}", f"lr_decay={lr_decay}")
    assert series(run(made), "lr") == pytest.approx(expected, rel=1e-3)


def test_the_threshold_of_clipping_is_that_of_the_summed_loss(settings: Make) -> None:
    """One update with the mean of 60 losses moves by lr * clip_norm / 60."""
    made = settings("truncation.K=60", "scheme=tf", "clip_norm=0.06", "lr=2", "lr_scaling=none", "epochs=1")
    before, after = build(made).model.state_dict(), parameters(run(made))
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    assert torch.linalg.vector_norm(moved).item() == pytest.approx(2 * 0.06 / 60, rel=1e-3)


def test_weight_decay_and_momentum_reach_the_optimizer(settings: Make) -> None:
    (group,) = build(settings("optimizer=momentum", "optimizer.weight_decay=0.25")).optimizer.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.9, 0.25)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adadelta", "adam"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_optimizer_learns_in_every_scheme(settings: Make, scheme: str, optimizer: str) -> None:
    lr = {"adam": 0.02, "adadelta": 1.0, "momentum": 0.1}.get(optimizer, 0.5)
    overrides = (f"scheme={scheme}", f"optimizer={optimizer}", f"lr={lr}", "lr_scaling=none", "truncation.K=4")
    loss = series(run(settings(*overrides, "epochs=3")), "valid_loss")
    assert loss[-1] < 0.95 * loss[0]


@pytest.mark.parametrize("model", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("dataset", ["copy_variable", "repeat", "linear"])
def test_every_model_runs_every_task(settings: Make, model: str, dataset: str, tiny: tuple[str, ...]) -> None:
    size = tuple(o for o in tiny if "length" not in o)
    directory = run(settings(f"model={model}", f"dataset={dataset}", "model.layers=2", "lr=0.1", size=size))
    assert all(math.isfinite(value) for value in series(directory, "valid_loss"))
    assert ("valid_ppl" in set(metrics(directory)["metric"])) is (dataset != "linear")


def test_a_budget_in_seconds_ends_a_run_early(settings: Make) -> None:
    directory = run(settings("epochs=1000000", "seconds=0.3"))
    assert 0.3 <= directory.status()["train_seconds"] < 3
    assert directory.finished()


def test_a_run_that_diverges_fails_with_its_last_good_checkpoint(settings: Make) -> None:
    made = settings("model=rnn_relu", "lr=1e9", "clip_norm=null", "epochs=4")
    with pytest.raises(DivergedError, match=r"not finite after \d+ updates .* lr \(=1e\+09\) or clip_norm"):
        run(made)
    directory = RunDirectory(made)
    assert directory.status()["state"] == "failed"
    assert "DivergedError" in (directory.path / schema.TRACEBACK).read_text()
    assert all(bool(value.isfinite().all()) for value in parameters(directory).values())
    assert metrics(directory)["step"].max() == 0


def test_lag_profiles_cover_every_evaluation_component_and_lag(settings: Make) -> None:
    directory = run(settings("model.layers=2"))
    table = pq.read_table(directory.path / schema.GRADIENTS)
    assert table.schema.equals(schema.GRADIENTS_SCHEMA)
    frame = table.to_pandas()
    assert set(frame["component"]) == {"all", "hidden0", "hidden1", "cell0", "cell1"}
    assert len(frame) == 3 * 5 * 12
    whole = frame[frame["component"] == "all"]
    assert whole["lag"].tolist() == list(range(1, 13)) * 3
    assert (whole["kept_of_mean"] > 0).all()


def test_positions_cover_every_evaluation_probe_and_position_and_average_to_the_lag_profile(settings: Make) -> None:
    directory = run(settings("probe.probes=2"))
    table = pq.read_table(directory.path / schema.POSITIONS)
    assert table.schema.equals(schema.POSITIONS_SCHEMA)
    frame = table.to_pandas()
    counts = frame.groupby(["step", "replicate", "position"])["lag"].agg(["count", "max"])
    assert counts.index.tolist() == [(step, probe, at) for step in (0, 60, 120) for probe in (0, 1) for at in (8, 11)]
    assert counts["count"].tolist() == counts["max"].tolist() == [9, 12] * 6
    whole = pq.read_table(directory.path / schema.GRADIENTS).to_pandas()
    whole = whole[(whole["component"] == "all") & (whole["lag"] <= 9)].set_index(["step", "replicate", "lag"])["phi"]
    means = frame[frame["lag"] <= 9].groupby(["step", "replicate", "lag"])["phi"].mean()
    pd.testing.assert_series_equal(means, whole.sort_index(), rtol=1e-12)


def scored(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the evaluations find these validation perplexities, one after another."""
    left = [value for value in values for _ in ("valid", "test")]
    monkeypatch.setattr("atbptt.training.trainer.evaluate", lambda *_: {"ppl": left.pop(0), "loss": 1.0})


def test_predictions_are_those_of_the_best_evaluation(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parameters of then, not of the end."""
    from atbptt.training.predictions import predict

    models: dict[int, dict[str, torch.Tensor]] = {}
    evaluate_ = Trainer._evaluate

    def noting(self: Trainer) -> None:
        models[self.windows.step] = {name: value.clone() for name, value in self.model.state_dict().items()}
        evaluate_(self)

    monkeypatch.setattr(Trainer, "_evaluate", noting)
    scored(monkeypatch, 5.0, 2.0, 2.0, 3.0)
    made = settings("epochs=3", "evaluate_every=1")
    directory = run(made)
    table = pq.read_table(directory.path / schema.PREDICTIONS)
    assert table.schema.equals(schema.PREDICTIONS_SCHEMA)
    frame = table.to_pandas()
    assert (set(frame["step"]), set(frame["epoch"])) == ({60}, {1.0})
    assert directory.status()["best_epoch"] == 1.0
    task, model, *_ = build(made)
    found = {}
    for step in (60, 180):
        model.load_state_dict(models[step])
        found[step] = predict(model, task)
    for name in ("stream", "position", "quantity", "target", "predicted"):
        assert frame[name].tolist() == found[60][name].tolist()
    assert len(frame) == 30 * 4
    assert found[60]["predicted"].tolist() != found[180]["predicted"].tolist()


def test_without_a_finite_score_there_are_no_predictions(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, math.nan, math.inf, math.nan)
    directory = run(settings())
    assert directory.finished()
    assert not (directory.path / schema.PREDICTIONS).exists()


def test_predictions_of_an_evaluation_that_a_longer_budget_does_not_make_go(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one at the end of the shorter budget was the first that was finite; those of the longer one are not."""
    made = ("evaluate_every=1", "truncation.K=3")
    scored(monkeypatch, math.nan, math.nan, 2.0)
    path = run(settings(*made, "epochs=1.5")).path / schema.PREDICTIONS
    assert set(pq.read_table(path)["epoch"].to_pylist()) == {1.5}
    scored(monkeypatch, math.nan)
    run(settings(*made, "epochs=2"))
    assert not path.exists()


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


def test_a_bad_config_leaves_nothing_behind(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"probe\.burn_in"):
        run(settings("probe.burn_in=55"))
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_dataset_model_and_policy_need_a_class_and_a_yaml(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    """Classes and YAML that live outside the package, composed as launch.py composes them."""
    from atbptt.sweeps.planning import plan

    (tmp_path / "mine.py").write_text(USERS_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for group, name, text in (
        ("dataset", "parity", "name: parity\n_target_: mine.Parity\nsteps: 50\n"),
        ("model", "leaky", "name: leaky\n_target_: mine.Leaky\nleak: 0.5\n"),
        ("truncation", "doubling", "name: doubling\n_target_: mine.Doubling\nK: 2\n"),
    ):
        (tmp_path / "yaml" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "yaml" / group / f"{name}.yaml").write_text(text)
    probe = [o for o in tiny if o.startswith("probe")]
    mine = ["dataset=parity", "model=leaky", "truncation=doubling", "model.leak=0.25"]
    arguments = ["--config-dir", str(tmp_path / "yaml"), *probe, *mine, "epochs=3", f"output_dir={tmp_path}/out"]
    planned = plan(arguments, root / "conf")
    assert planned is not None
    directory = run(planned.jobs[0].settings)
    assert directory.path.parent == tmp_path / "out" / "parity"
    assert series(directory, "K") == [2, 2, 4, 8]  # at an evaluation, K is that of the window before
    options = pq.read_table(directory.path / schema.OPTIONS).to_pylist()[0]
    assert (options["model"], options["model.leak"], options["truncation"]) == ("leaky", 0.25, "doubling")
    with pytest.raises(ConfigError, match=r"model.leek .*did you mean leak"):
        plan([*arguments, "+model.leek=1"], root / "conf")


USERS_CODE = """
import torch
from atbptt.datasets import Stream, SymbolTask


class Parity(SymbolTask):
    input_size = output_size = 2

    def __init__(self, steps: int):
        symbols = torch.randint(2, (steps, 3), generator=torch.Generator().manual_seed(0))
        self.train = self.valid = self.test = Stream(symbols, symbols.cumsum(0) % 2)


class Leaky(torch.nn.Module):
    def __init__(self, input_size: int, output_size: int, leak: float):
        super().__init__()
        self.embedding = torch.nn.Embedding(input_size, 3)
        self.mix = torch.nn.Linear(3, 3)
        self.decoder = torch.nn.Linear(3, output_size)
        self.leak = leak

    def forward(self, inputs, state):
        outputs = []
        for x in self.embedding(inputs):
            h = (1 - self.leak) * state["h"] + self.leak * torch.tanh(x + self.mix(state["h"]))
            state = {"h": h}
            outputs.append(h)
        return self.decoder(torch.stack(outputs)), state

    def initial_state(self, batch):
        return {"h": torch.zeros(batch, 3)}


class Doubling:
    def __init__(self, K: int):
        self.first = self.K = K

    def update(self, progress, probe):
        self.K = self.first * 2 ** (progress.step // progress.epoch_steps)
"""


@pytest.mark.parametrize(
    ("scheme", "rates"),
    [
        ("original-buffer", [14.0] * 4 + [4.0]),  # 60 = 4 * 14 + 4
        ("double-tf", [14.0] * 2 + [14.0 * 6 / 27]),  # 60 = 2 * 27 + 6
        ("buffer", [14.0] * 4),  # the last of which sees the end, and counts 18
        ("original", [14.0] * 47),
    ],
)
def test_a_short_last_window_makes_no_longer_step_than_its_losses_deserve(
    settings: Make, monkeypatch: pytest.MonkeyPatch, scheme: str, rates: list[float]
) -> None:
    """With the whole K, its step would be K / losses times as long as any other: at the end of every epoch."""
    found: list[float] = []

    def note(_model: object, optimizer: torch.optim.Optimizer, *_: object) -> torch.Tensor:
        found.append(optimizer.param_groups[0]["lr"])
        return torch.zeros(())

    monkeypatch.setattr("atbptt.training.trainer.step", note)
    run(settings("lr_scaling=linear", "truncation.K=14", f"scheme={scheme}", "epochs=1"))
    assert found == pytest.approx(rates)


def test_a_gradient_without_a_finite_norm_ends_the_run(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clipped, it would be no gradient: nothing moves, and the loss stays finite."""
    monkeypatch.setattr("atbptt.training.trainer.step", lambda *_: torch.tensor(torch.inf))
    with pytest.raises(DivergedError, match=r"^the training gradient's norm is not finite after \d+ updates "):
        run(settings())


def test_a_parameter_that_is_not_finite_is_never_stored(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unclipped, the loss tells of it only a window later."""
    updates = []

    def poison(model: torch.nn.Module, *_: object) -> None:
        updates.append(model)
        if len(updates) == 5:
            with torch.no_grad():
                model.decoder.bias[0] = torch.nan

    monkeypatch.setattr("atbptt.training.trainer.step", poison)
    monkeypatch.setattr("atbptt.training.trainer.CHECKPOINT_SECONDS", 0.0)  # after every window
    made = settings("clip_norm=null")
    with pytest.raises(DivergedError, match=r"^decoder.bias of the model is not finite after 5 updates \(epoch"):
        run(made)
    assert all(bool(value.isfinite().all()) for value in parameters(RunDirectory(made)).values())


def test_what_was_read_and_dropped_stands_in_the_log(settings: Make, tiny: tuple[str, ...], tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("one two three\n" * 20 + ("four\n" if split == "test" else ""))
    size = (*(o for o in tiny if not o.startswith("dataset.")), "dataset=text", "dataset.batch_size=3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))
        log = (run(settings(f"dataset.path={tmp_path}", size=size)).path / schema.LOG).read_text()
    for line in (
        "data, train: 79 words to predict in 3 streams of 26 steps, the last 1 dropped",
        "data, test: words that train.txt lacks, read as <unk>: 1",
    ):
        assert log.count(line) == 1


def test_monitor_names_a_metric_of_the_data_set(settings: Make) -> None:
    assert run(settings("monitor=loss")).status()["monitor"] == "valid_loss"
    with pytest.raises(ConfigError, match=r"monitor \(=nll\) must be one of ppl, loss"):
        build(settings("monitor=nll"))


def test_another_monitor_starts_its_own_best(settings: Make) -> None:
    run(settings("monitor=loss"))
    status = run(settings("epochs=3")).status()
    assert status["monitor"] == "valid_ppl"
    assert status["best"] > 1  # no perplexity is below; the loss was


def test_status_tells_progress_and_best(settings: Make) -> None:
    directory = run(settings())
    status = directory.status()
    assert (status["state"], status["epoch"], status["K"]) == ("finished", 2, 10)
    assert status["best"] == pytest.approx(min(series(directory, "valid_ppl")))


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
        Trainer(made, build(made), directory, torch.device("cpu"), log, Told()).train()
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


def test_a_run_stores_where_it_comes_from(settings: Make) -> None:
    """Every attempt adds its code, packages and machine."""
    run(settings("epochs=1"))
    directory = run(settings("epochs=2"), Origin("sweep", {**code(), "repositories": []}, ["launch.py"]))
    first, second = json.loads((directory.path / schema.ENVIRONMENT).read_text())["attempts"]
    assert first["code"] == code()
    assert first["code"]["packages"]["torch"] == torch.__version__
    assert first["machine"]["cores"] >= 1
    assert (second["sweep"], second["command"]) == ("sweep", ["launch.py"])
    status = directory.status()
    assert (status["sweep"], status["attempt"], status["first_epoch"]) == ("sweep", 2, 1.0)
    assert "continues with other code: commit" in (directory.path / schema.LOG).read_text()
