import io
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from analysis.diagnosis.figure import draw
from analysis.diagnosis.measuring import diagnose
from analysis.diagnosis.report import report
from atbptt.config.settings import Settings
from atbptt.datasets import SPLITS
from atbptt.errors import ConfigError
from atbptt.runs import read_checkpoint, schema
from atbptt.runs.directory import RunDirectory
from atbptt.training.experiment import build, run
from atbptt.training.stored_model import open_stored_model
from atbptt.training.trainer import DivergedError, Trainer
from atbptt.training.trust import Trust
from atbptt.windows import prober
from tests.conftest import TINY_PROBE, TINY_RUN
from tests.helpers.measuring import made_measurement
from tests.helpers.projects import Project
from tests.helpers.training import DRAWING, check_same, composed, metrics, parameters, run_interrupted, series

Make = Callable[..., Settings]
HELPERS = "tests.helpers.nesting"


@pytest.mark.parametrize("policy", DRAWING, ids=lambda policy: policy[0])
def test_what_a_policy_draws_depends_on_the_seed_and_its_lr_does_not(settings: Make, policy: tuple[str, ...]) -> None:
    name, *options = policy
    first, other = (run(settings(f"truncation={name}", *options, "scheme=tf", f"seed={seed}")) for seed in (0, 1))
    assert series(first, "mean_K") != series(other, "mean_K")
    assert set(series(first, "lr")) == {6**0.5}


@pytest.fixture
def without(settings: Make) -> Make:
    """Settings of a tiny run without probes."""
    return lambda *overrides: settings("probe=none", *overrides, size=TINY_RUN)


def test_without_probes_all_but_what_they_measure_is_the_same(settings: Make, without: Make) -> None:
    chosen = ("model.dropout=0.3", "optimizer=momentum", "phase=random")
    probed, plain = run(settings(*chosen)), run(without(*chosen))
    for name, values in parameters(probed).items():
        assert torch.equal(values, parameters(plain)[name])
    every, left = metrics(probed), metrics(plain)
    measured = every["metric"].str.match("K_|log_|gradient_cosine|signal_to_noise")
    columns = [name for name in left if name != schema.ID]
    pd.testing.assert_frame_equal(every.loc[~measured, columns].reset_index(drop=True), left[columns])
    assert every["metric"][measured].nunique() > 20
    assert not {schema.GRADIENTS, schema.POSITIONS} & {path.name for path in plain.path.iterdir()}
    assert (plain.path / schema.PREDICTIONS).exists()


@pytest.mark.parametrize(("updates", "checkpoint"), [(3, True), (11, False)])
def test_a_run_without_probes_continues_exactly_and_is_extended(
    without: Make, tmp_path: Path, updates: int, checkpoint: bool
) -> None:
    whole, broken = without(f"output_dir={tmp_path / 'whole'}", "epochs=3"), without("epochs=2")
    run_interrupted(broken, updates, checkpoint)
    run(broken)
    longer = without("epochs=3")
    assert not RunDirectory(longer).finished()
    check_same(run(whole), run(longer))


PROBING = """
    class Mine:
        K = 3
        SAID
        def update(self, progress, probe):
            probe()
"""


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("probes = True", r"^probe \(=none\) must be default with truncation=Mine, which needs probes"),
        ("", r"^probe \(=none\) must be default with truncation=Mine, "),  # as its code shows
        ("probes = False", r"^probe \(=none\) makes no probes, and the policy asks for one"),  # which is not so
    ],
)
def test_a_policy_of_the_users_that_probes_is_refused_without_probes(
    without: Make, project: Project, said: str, message: str
) -> None:
    project.write(mine=PROBING.replace("SAID", said or "pass"))
    made = without("~truncation.K", "~truncation.name", "truncation._target_=mine.Mine")
    with pytest.raises(ConfigError, match=message):
        run(made)
    if said == "probes = False":
        assert read_checkpoint(RunDirectory(made).path / schema.CHECKPOINT)["updates"] == 0


def test_mean_K_is_of_the_windows_since_the_last_evaluation(settings: Make) -> None:
    """K grows by a step every two steps of the stream, from 2 to 32 in the 60 steps of an epoch."""
    chosen = ("truncation=warmup", "truncation.K_init=2", "truncation.K_final=32", "truncation.epochs=1")
    lengths, step = [], 0
    while step < 60:
        lengths.append(2 + step // 2)
        step += lengths[-1]
    directory = run(settings(*chosen, "scheme=tf"))
    assert series(directory, "mean_K") == [pytest.approx(sum(lengths) / len(lengths)), 32]
    assert series(directory, "K") == [2, lengths[-1], 32]  # at an evaluation, K is that of the window before


def test_losses_that_do_not_count_are_in_no_mean(settings: Make, tmp_path: Path) -> None:
    """With clipping, and steps that are as good as none."""
    drawn = np.random.default_rng(0)
    arrays = {f"{split}_{of}": drawn.integers(5, size=(60, 4)) for split in SPLITS for of in ("inputs", "targets")}
    for split in SPLITS:
        arrays[f"{split}_targets"][np.arange(60) % 12 < 8] = -1
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    options = ("scheme=buffer", "truncation=adaptive", "truncation.K_init=3", "lr=1e-9", "lr_scaling=linear")
    data = ("dataset=arrays", f"dataset.path={tmp_path / 'mine.npz'}", "dataset.ignored=-1")
    size = ("model.hidden=6", "epochs=2", *TINY_PROBE)
    made = settings(*data, *options, size=size)
    task, model, *_ = build(made)
    expected = {}
    for split in ("train", "valid"):
        stream = getattr(task, split)
        with torch.no_grad():
            losses = task.loss(model(stream.inputs, model.initial_state(4))[0], stream.targets)  # type: ignore[operator]
        expected[split] = float(losses[torch.arange(60) % 12 >= 8].mean())
    directory = run(made)
    assert series(directory, "valid_loss")[0] == pytest.approx(expected["valid"], rel=1e-6)
    assert series(directory, "train_loss") == pytest.approx([expected["train"]] * 2, rel=1e-5)
    assert read_checkpoint(directory.path / schema.CHECKPOINT)["passed_over"] > 0


def test_a_model_may_take_none_for_the_zero_state(settings: Make, project: Project) -> None:
    project.write(mine=STATELESS)
    chosen = ("truncation=adaptive", "truncation.K_init=4", "model._target_=mine.Network")
    found = [run(settings(*chosen, f"+model.begins={begins}")) for begins in ("true", "false")]
    own, other = map(metrics, found)
    timed = own["metric"].str.contains("second|memory")
    assert len(own) == len(other)
    pd.testing.assert_series_equal(own["value"][~timed], other["value"][~timed])


def test_a_run_of_several_inputs_and_outputs_is_that_of_one_of_each(settings: Make) -> None:
    """With predictions, a diagnosis of its stored model, and an integer count in the state of a run that goes on."""
    chosen = settings("truncation=adaptive", "truncation.K_init=4", "lr=0.05", size=("epochs=2", *TINY_PROBE))
    parts = (
        {"dataset": {"_target_": f"{HELPERS}.{kind}Data"}, "model": {"_target_": f"{HELPERS}.{kind}"}}
        for kind in ("Plain", "Parted")
    )
    plain, parted = (chosen.model_copy(update=each) for each in parts)
    run_interrupted(parted, 9)
    directories = [run(each) for each in (plain, parted)]
    for name in ("test_loss", "train_loss", "K", "log_relative_bias_measured"):
        expected, found = (series(directory, name) for directory in directories)
        assert found == pytest.approx(expected, rel=1e-9), name
    tables = [pq.read_table(directory.path / schema.PREDICTIONS) for directory in directories]
    assert tables[0]["predicted"].equals(tables[1]["predicted"])
    found = diagnose(open_stored_model(directories[1].path, Trust(all=True)), "valid", chosen.probe, seed=0)
    assert found.phi[0] > 0


def test_a_run_whose_sequences_begin_anew_tells_of_how_many_losses_a_lag_is(settings: Make, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    for split in SPLITS:
        lengths = drawn.integers(4, 9, size=40)
        for kind, make in (("event", lambda n: drawn.integers(1, 4, n)), ("time", lambda n: drawn.random(n).cumsum())):
            lines = (" ".join(map(str, make(length))) for length in lengths)
            (tmp_path / f"{kind}-{split}.txt").write_text("\n".join(lines))
    chosen = ("truncation=adaptive", "truncation.K_init=4", "model=point_process", "lr=0.1")
    data = ("dataset=events", f"dataset.path={tmp_path}", "dataset.batch_size=3", "dataset.resets=true")
    made = settings(*data, *chosen, size=("model.hidden=6", "model.embedding=4", "epochs=1", *TINY_PROBE))
    directory = run(made)
    frame = pq.read_table(directory.path / schema.GRADIENTS).to_pandas().query("component == 'all'")
    reach = frame[frame["step"] == 0].set_index("lag")["reach"]
    assert (reach.diff().dropna() <= 0).all()
    assert reach[1] > 0.6
    assert reach[9] == 0  # the longest sequence has 8 events, of which the last is predicted only
    assert (frame["phi"].isna() == (frame["reach"] == 0)).all()
    positions = pq.read_table(directory.path / schema.POSITIONS).to_pandas()
    assert positions["phi"].isna().any()
    found = diagnose(open_stored_model(directory.path), "valid", made.probe, seed=0)
    assert found.phi[-1] == 0 < found.phi[0]
    assert draw(found, (0.5,), tmp_path / "reach.png").stat().st_size > 0
    Console(file=io.StringIO()).print(report(found, (0.5,)))


STATELESS = """
    from torch import nn
    from atbptt.models import RecurrentNetwork

    class Network(RecurrentNetwork):
        def __init__(self, input_size, output_size, cell, layers, hidden, embedding, tied, dropout, begins):
            super().__init__(input_size, output_size, cell, layers, hidden, embedding, tied, dropout)
            if not begins:
                self.initial_state = None
"""


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (("epochs=1.4", "evaluate_every=0.5", "truncation.K=3"), [0, 30, 60, 84]),
        (("epochs=1", "evaluate_every=0.2", "truncation.K=6"), [0, 12, 24, 36, 48, 60]),
    ],
)
def test_evaluations_fall_on_their_schedule(settings: Make, options: tuple[str, ...], steps: list[int]) -> None:
    """Also where it is in decimal fractions of an epoch."""
    frame = metrics(run(settings(*options)))
    assert sorted(set(frame["step"])) == steps
    assert sorted(set(frame["epoch"])) == [step / 60 for step in steps]


@pytest.fixture(scope="module", params=["fixed", "adaptive"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of two layers with two probes, whose policy may probe at epochs 0.5, 1 and 1.5."""
    adaptive = ("truncation=adaptive", "truncation.update_every=0.5") if request.param == "adaptive" else ()
    return run(composed(tmp_path_factory.mktemp("runs"), "model.layers=2", "probe.probes=2", *adaptive))


def test_every_evaluation_logs_every_metric_whatever_the_policy(finished: RunDirectory) -> None:
    frame = metrics(finished)
    last = frame[frame["epoch"] == 2]
    lengths = {f"K_{delta}{kind}" for delta in ("1", "0.9", "0.5", "0.1") for kind in ("", "_measured")}
    assert set(last["metric"]) == {
        "train_loss", "valid_loss", "valid_ppl", "test_loss", "test_ppl", "grad_norm", "K", "mean_K", "lr",
        "log_relative_bias", "log_relative_bias_measured", "log_relative_bias_measured_of_steps", "log_beta",
        "gradient_cosine", "gradient_cosine_of_steps", "signal_to_noise",
        *lengths, *(f"K_{delta}_measured_of_steps" for delta in ("1", "0.9", "0.5", "0.1")),
        *(f"{length}{end}" for length in lengths for end in ("_low", "_high")),
    }  # fmt: skip
    assert last.loc[last["metric"] == "log_relative_bias", "replicate"].tolist() == [0, 1]
    ppl, loss = (last.loc[last["metric"] == f"valid_{name}", "value"].item() for name in ("ppl", "loss"))
    assert ppl == pytest.approx(math.exp(loss))
    rows = pq.read_table(finished.path / schema.METRICS).to_pandas()
    for speed, clock in (("steps_per_second", "train_seconds"), ("steps_per_compute_second", "compute_seconds")):
        times = [rows.loc[rows["step"] == step, clock].iloc[0] for step in (0, 60, 120)]
        assert rows.loc[rows["metric"] == speed, "value"].tolist() == pytest.approx(list(60 / np.diff(times)))
    costs = rows.pivot_table("value", "step", "metric")[["processor_seconds", "peak_memory_mb"]]
    assert (costs.diff().dropna() >= 0).all(axis=None)
    assert (costs["processor_seconds"] > rows.groupby("step")["compute_seconds"].max()).all()
    status = finished.status()
    assert (status["state"], status["epoch"], status["step"], status["monitor"]) == ("finished", 2, 120, "valid_ppl")
    assert status["K"] == series(finished, "K")[-1]
    assert status["best"] == pytest.approx(min(series(finished, "valid_ppl")))


def test_adaptive_epochs_count_what_the_policys_probes_read(finished: RunDirectory) -> None:
    last = metrics(finished).query("epoch == 2").iloc[0]
    probed = 3 * 2 * (4 + 12) if finished.settings.truncation["name"] == "adaptive" else 0
    assert last["adaptive_epoch"] == pytest.approx(2 + probed / 60)


def test_profiles_cover_every_evaluation_probe_component_position_and_lag(finished: RunDirectory) -> None:
    """Those of positions average to that of the whole state."""
    whole = pq.read_table(finished.path / schema.GRADIENTS).to_pandas()
    assert set(whole["component"]) == {"all", "hidden0", "hidden1", "cell0", "cell1"}
    assert len(whole) == 3 * 2 * 5 * 12
    whole = whole[whole["component"] == "all"]
    assert whole["lag"].tolist() == list(range(1, 13)) * 6
    assert (whole["kept_of_mean"] > 0).all()
    frame = pq.read_table(finished.path / schema.POSITIONS).to_pandas()
    counts = frame.groupby(["step", "replicate", "position"])["lag"].agg(["count", "max"])
    assert counts.index.tolist() == [(step, probe, at) for step in (0, 60, 120) for probe in (0, 1) for at in (8, 11)]
    assert counts["count"].tolist() == counts["max"].tolist() == [9, 12] * 6
    whole = whole[whole["lag"] <= 9].set_index(["step", "replicate", "lag"])["phi"]
    means = frame[frame["lag"] <= 9].groupby(["step", "replicate", "lag"])["phi"].mean()
    pd.testing.assert_series_equal(means, whole.sort_index(), rtol=1e-12)


@pytest.mark.parametrize(
    ("lr_scaling", "lr_decay", "expected"),
    [("none", "none", [2, 2, 2]), ("sqrt", "none", [6, 6, 6]), ("linear", "inverse_sqrt", [18, 12.73, 10.39])],
)
def test_lr_scales_and_decays(settings: Make, lr_scaling: str, lr_decay: str, expected: list[float]) -> None:
    made = settings("lr=2", "truncation.K=9", f"lr_scaling={lr_scaling}", f"lr_decay={lr_decay}")
    assert series(run(made), "lr") == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("lr_decay=none", "lr_decay.warmup=2"), [0, 1, 2]),
        (("lr_decay=step", "lr_decay.epochs=[1]"), [2, 0.5, 0.5]),
        (("lr_decay=cosine",), [2, 1, 0]),
    ],
)
def test_a_schedule_is_logged_for_the_epoch_that_starts(
    settings: Make, options: tuple[str, ...], expected: list[float]
) -> None:
    assert series(run(settings("lr=2", "lr_scaling=none", *options)), "lr") == pytest.approx(expected, abs=1e-12)


def test_each_update_has_the_rate_at_its_window(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr("atbptt.training.trainer.step", lambda _, optim, *__: rates.append(optim.param_groups[0]["lr"]))
    run(settings("lr=2", "lr_scaling=none", "lr_decay.warmup=1", "truncation.K=15", "scheme=tf"))
    assert rates == [0, 0.5, 1, 1.5, 2, 2, 2, 2]


def test_a_rate_that_is_none_ends_the_run_with_an_error(settings: Make, project: Project) -> None:
    project.write(mine="class Mine:\n    def rate(self, lr, epoch): return 1 if epoch < 1 else -1")
    made = settings("~lr_decay.warmup", "lr_decay._target_=mine.Mine")
    with pytest.raises(ConfigError, match=r"^lr_decay.rate\(lr=1, epoch=1\) \(=-1\) must be a finite number"):
        run(made)
    assert RunDirectory(made).status()["state"] == "failed"


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


def test_compute_seconds_leave_out_what_training_waits(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbptt.training.trainer.step", lambda *_: time.sleep(0.05))
    rows = pq.read_table(run(settings("clip_norm=null")).path / schema.METRICS).to_pandas()
    last = rows.iloc[-1]
    assert 0 < last["compute_seconds"] < last["train_seconds"] - 0.9 * 0.05 * last["updates"]


def scored(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the evaluations find these validation perplexities, one after another."""
    left = [value for value in values for _ in ("valid", "test")]
    monkeypatch.setattr("atbptt.training.trainer.evaluate", lambda *_: {"ppl": left.pop(0), "loss": 1.0})


def test_predictions_are_those_of_the_best_evaluation(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parameters of then; of equally good evaluations, the first."""
    bias: dict[int, float] = {}
    evaluate_ = Trainer._evaluate

    def noting(self: Trainer) -> None:
        bias[self.windows.step] = self.model.decoder.bias[0].item()  # type: ignore[union-attr,index]
        evaluate_(self)

    def predict(model: Any, task: Any) -> dict[str, Any]:  # noqa: ARG001
        predicted = [model.decoder.bias[0].item()]
        return {"stream": [0], "position": [0], "quantity": ["symbol"], "target": [1], "predicted": predicted}

    monkeypatch.setattr(Trainer, "_evaluate", noting)
    monkeypatch.setattr("atbptt.training.trainer.predict", predict)
    scored(monkeypatch, 5.0, 2.0, 2.0, 3.0)
    directory = run(settings("epochs=3", "evaluate_every=1"))
    (row,) = pq.read_table(directory.path / schema.PREDICTIONS).to_pylist()
    assert (row["step"], row["epoch"], directory.status()["best_epoch"]) == (60, 1.0, 1.0)
    assert row["predicted"] == bias[60] != bias[180]


def test_predictions_that_a_longer_budget_does_not_make_go(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one at the end of the shorter budget was the first that was finite; those of the longer one are not."""
    made = ("evaluate_every=1", "truncation.K=3")
    scored(monkeypatch, math.nan, math.nan, 2.0)
    path = run(settings(*made, "epochs=1.5")).path / schema.PREDICTIONS
    assert set(pq.read_table(path)["epoch"].to_pylist()) == {1.5}
    scored(monkeypatch, math.nan)
    run(settings(*made, "epochs=2"))
    assert not path.exists()


@pytest.mark.parametrize(
    ("wrong", "wait", "message"),
    [
        ("norm", "CHECKPOINT", "the training gradient's norm is not finite after 1 updates"),  # clipped, nothing moves
        ("parameter", "CHECKPOINT", "decoder.bias of the model is not finite after 5 updates"),  # the loss is, still
        ("parameter", "HEARTBEAT", "the training loss is not finite after 6 updates"),
        ("parameter", "NO", "the training loss is not finite after 6 updates"),  # found by the evaluation
    ],
)
def test_what_is_not_finite_is_never_stored(
    settings: Make, monkeypatch: pytest.MonkeyPatch, wrong: str, wait: str, message: str
) -> None:
    updates = []

    def poison(model: Any, *_: object) -> torch.Tensor | None:
        updates.append(model)
        if wrong == "norm":
            return torch.tensor(torch.inf)
        if len(updates) == 5:
            with torch.no_grad():
                model.decoder.bias[0] = torch.nan
        return None

    monkeypatch.setattr("atbptt.training.trainer.step", poison)
    monkeypatch.setattr(f"atbptt.training.trainer.{wait}_SECONDS", -1.0, raising=False)
    made = settings("lr=3", "clip_norm=null")
    with pytest.raises(DivergedError, match=rf"^{message} \(epoch .*lower lr \(=3\) or clip_norm \(=null\) may help"):
        run(made)
    directory = RunDirectory(made)
    assert all(bool(value.isfinite().all()) for value in parameters(directory).values())
    assert directory.status()["state"] == "failed"
    assert "DivergedError" in (directory.path / schema.TRACEBACK).read_text()
    stored = metrics(directory).set_index("metric")
    assert stored.drop(schema.DIVERGED)["step"].max() == 0
    assert stored.loc[schema.DIVERGED, "value"] == 1


def test_another_monitor_starts_its_own_best(settings: Make) -> None:
    assert run(settings("monitor=loss")).status()["monitor"] == "valid_loss"
    status = run(settings("epochs=3")).status()
    assert status["monitor"] == "valid_ppl"
    assert status["best"] > 1  # no perplexity is below; the loss was


def test_a_probe_that_is_not_finite_is_reported_and_left_out(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = made_measurement(), made_measurement(finite=False)
    bad = replace(bad, gradients=replace(bad.gradients, unsuited="it draws"))
    problem = "its loss must be finite, and is nan in stream 1"
    assert bad.problem() == problem
    adaptive = ("truncation=adaptive", "truncation.delta=0.95", "truncation.K_init=7", "truncation.K_min=1")
    made = settings(*adaptive, "probe.positions=1")  # as `made_measurement` has
    for found, K in (([bad, good], 2), ([bad], 7)):
        measurements = itertools.cycle(found)
        monkeypatch.setattr(prober, "measure", lambda *_, made=measurements, **__: next(made))
        probe = replace(made.probe, probes=len(found))
        directory = run(made.model_copy(update={"seed": K, "probe": probe}))
        log = Path(directory.path / "log.txt").read_text()
        assert f"epoch 1: probe 0 for policy is not usable: {problem}" in log
        assert log.count("probes run the model step by step, which takes longer: it draws") == 1
        assert directory.status()["K"] == K
