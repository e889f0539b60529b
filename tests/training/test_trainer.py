from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from atbptt.config.settings import Settings
from atbptt.probes.bias import RelativeBias
from atbptt.runs import schema
from atbptt.runs.directory import RunDirectory
from atbptt.training import experiment
from atbptt.training.experiment import build, run
from atbptt.training.trainer import DivergedError, Trainer
from atbptt.windows.prober import Prober
from tests.helpers.measuring import made_measurement
from tests.helpers.training import DRAWING, metrics, parameters, series

Make = Callable[..., Settings]


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
    from atbptt.training.evaluation import predict

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


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("losses", "its loss must be finite, and is inf in stream 1"),
        ("measured", "the gradient of its recurrent parameters must be finite, and not zero throughout"),
        ("bound", "the norms of its gradients are finite, but their sum is not"),
    ],
)
def test_whatever_is_not_finite_is_reported_and_the_policy_does_not_see_it(
    what: str, problem: str, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = made_measurement()
    nothing = np.full(4, np.nan)
    bad = {
        "losses": replace(good, gradients=replace(good.gradients, losses=np.array([[1.0, np.inf]]))),
        "measured": replace(good, estimate=replace(good.estimate, measured=RelativeBias(nothing, np.empty((0, 4))))),
        "bound": replace(good, estimate=replace(good.estimate, bound=replace(good.estimate.bound, values=nothing))),
    }[what]
    assert bad.problem() == problem
    monkeypatch.setattr(Prober, "measure", lambda *_, **__: [bad, good])
    adaptive = ("truncation=adaptive", "truncation.delta=0.95", "truncation.K_init=7", "truncation.K_min=1")
    made = settings(*adaptive, "probe.positions=1")  # as `made_measurement` has
    directory = run(made)
    log = Path(directory.path / "log.txt").read_text()
    assert f"probe 0 for policy says nothing, and changes nothing: {problem}" in log
    assert directory.status()["K"] == 2  # of the good one


def test_that_a_model_is_run_step_by_step_is_reported_once(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.initial_state = inner, inner.initial_state

        def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
            outputs, (h, c) = self.inner(inputs, state)
            return outputs, (h * 1, c)

    def wrapped(*arguments: Any) -> Any:
        parts = build(*arguments)
        return parts._replace(model=Wrapped(parts.model))

    monkeypatch.setattr(experiment, "build", wrapped)
    log = Path(run(settings()).path / "log.txt").read_text()
    assert log.count("probes run the model step by step, which takes longer: the state it hands on is not its") == 1


class NotFiniteNow(nn.Module):
    """Its loss is NaN in evaluation mode, where probes run, and only after the checks before the first step."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.initial_state = inner, inner.initial_state

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, state = self.inner(inputs, state)
        return outputs if self.training else outputs * torch.nan, state


def test_a_nan_in_a_probe_is_reported_changes_no_K_and_the_run_goes_on(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotten(*arguments: Any) -> Any:
        parts = build(*arguments)
        return parts._replace(model=NotFiniteNow(parts.model))

    monkeypatch.setattr(experiment, "build", rotten)
    for estimator in ("bound", "measured"):
        directory = run(settings("truncation=adaptive", "truncation.K_init=7", f"truncation.estimator={estimator}"))
        log = Path(directory.path / "log.txt").read_text()
        assert "probe 0 for policy says nothing, and changes nothing: its loss must be finite, and is nan in" in log
        assert log.count(", K 7, ") == 3
        assert "finished: 2 epochs" in log
