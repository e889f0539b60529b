import math
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atbptt.datasets import Copy, Events, Linear, Stream, SymbolTask
from atbptt.datasets.task import Predicting
from atbptt.models.networks import PointProcessNetwork, RecurrentNetwork
from atbptt.probes.bias import bias_bound
from atbptt.probes.settings import ProbeSettings
from atbptt.training.evaluation import (
    CHUNK,
    STEPS,
    STREAMS,
    bias_metrics,
    evaluate,
    lag_profiles,
    position_profiles,
    predict,
)
from tests.helpers.measuring import made_measurement

NOTHING = np.full(4, np.nan)


def symbols(steps: int, batch: int = 3) -> Stream:
    return Stream(torch.randint(4, (steps, batch)), torch.randint(4, (steps, batch)))


def task_of_symbols() -> Any:
    task = SymbolTask()
    task.output_size = 4
    return task


@pytest.mark.parametrize("steps", [1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_every_step_counts_once_whatever_the_length_and_the_budget(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one unbroken pass."""
    torch.manual_seed(0)
    model = RecurrentNetwork(4, 4, hidden=5, layers=2, dropout=0.5)
    split = symbols(steps)
    with torch.no_grad():
        outputs, _ = model.eval()(split.inputs, model.initial_state(3))
        expected = torch.nn.functional.cross_entropy(outputs.double().flatten(0, 1), split.targets.flatten()).item()
    model.train()
    for budget in (10**9, 50, 7 * 12):
        monkeypatch.setattr("atbptt.models.losses.OUTPUTS", budget)
        found = evaluate(model, task_of_symbols(), split)
        assert found == pytest.approx({"loss": expected, "ppl": math.exp(expected)}, rel=1e-6)
    assert model.training


def test_only_losses_that_count_are_averaged_and_predicted() -> None:
    torch.manual_seed(0)
    model, task = RecurrentNetwork(4, 4, hidden=5), task_of_symbols()
    counted = torch.rand(CHUNK + 9, 5)
    counted[counted < 0.6] = 0
    split = symbols(CHUNK + 9, 5)
    with torch.no_grad():
        outputs, _ = model(split.inputs, model.initial_state(5))
        losses = task.loss(outputs, split.targets)
    task.test = replace(split, counted=counted)
    expected = float((losses * counted).sum() / counted.sum())
    assert evaluate(model, task, task.test)["loss"] == pytest.approx(expected, rel=1e-6)
    found = predict(model, task)
    kept = counted[:STEPS, :STREAMS].T > 0
    assert found["target"].tolist() == split.targets[:STEPS, :STREAMS].T[kept].tolist()
    assert np.column_stack([found["stream"], found["position"]]).tolist() == kept.nonzero().tolist()


def test_sequences_that_begin_anew_are_evaluated_as_each_by_itself() -> None:
    torch.manual_seed(0)
    model, task, split = RecurrentNetwork(4, 4, hidden=5), task_of_symbols(), symbols(CHUNK + 9)
    resets = torch.zeros(CHUNK + 9, 3, dtype=torch.bool)
    resets[[0, 7, CHUNK], [0, 1, 2]] = resets[CHUNK + 8] = True
    losses = []
    for stream in range(3):
        begins = [0, *(resets[1:, stream].nonzero().flatten() + 1).tolist(), CHUNK + 9]
        for start, stop in pairwise(begins):
            inputs, targets = (part[start:stop, [stream]] for part in (split.inputs, split.targets))
            with torch.no_grad():
                losses.append(task.loss(model(inputs, model.initial_state(1))[0], targets))
    expected = float(torch.cat(losses).double().mean())
    assert len(losses) == 8
    assert evaluate(model, task, replace(split, resets=resets))["loss"] == pytest.approx(expected, rel=1e-6)


def test_no_forward_pass_puts_out_more_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recurrent half runs on where the decoder pauses, but for a model without halves."""
    monkeypatch.setattr("atbptt.models.losses.OUTPUTS", 50)
    model, ran, decoded = RecurrentNetwork(4, 4, hidden=5), [], []
    model.rnn.register_forward_hook(lambda _module, given, _output: ran.append(len(given[0])))
    model.decoder.register_forward_hook(lambda _module, _inputs, output: decoded.append(output.numel()))
    split = symbols(CHUNK + 7)
    found = evaluate(model, task_of_symbols(), split)
    assert ran == [CHUNK, 7]
    assert (sum(decoded), max(decoded)) == ((CHUNK + 7) * 3 * 4, 48)
    ran.clear()
    assert evaluate(Whole(model), task_of_symbols(), split) == pytest.approx(found, rel=1e-6)
    assert set(ran) == {4, 3}
    decoded.clear()
    evaluate(model, task_of_symbols(), symbols(5, 99))  # a step has more than that
    assert decoded == [99 * 4] * 5


class Whole(nn.Module):
    """A model without halves."""

    def __init__(self, model: RecurrentNetwork) -> None:
        super().__init__()
        self.initial_state, self.forward = model.initial_state, model.forward


def copy(steps: int, batch: int) -> Copy:
    return Copy(
        min_length=2, max_length=3, symbols=4, train_steps=9, valid_steps=9, test_steps=steps, batch_size=batch, seed=0
    )


def column(found: dict[str, np.ndarray], name: str, quantity: str) -> np.ndarray:
    """A column of one quantity, (T, B)."""
    chosen = found["quantity"] == quantity
    streams, steps = (int(found[axis][chosen].max()) + 1 for axis in ("stream", "position"))
    values = np.full((steps, streams), np.nan)
    values[found["position"][chosen], found["stream"][chosen]] = found[name][chosen]
    assert chosen.sum() == values.size
    return values


@pytest.mark.parametrize(("steps", "batch"), [(STEPS + 57, STREAMS + 3), (STEPS, STREAMS), (7, 2)])
def test_the_likeliest_symbol_of_the_first_steps_of_the_first_streams(steps: int, batch: int) -> None:
    """By hand: a cell in plain products, step by step in float64, of one stream at a time; dropout off."""
    torch.manual_seed(0)
    model, task = RecurrentNetwork(4, 4, cell="rnn_tanh", hidden=5, dropout=0.5).double(), copy(steps, batch)
    found = predict(model, task)
    assert model.training
    predicted, target = column(found, "predicted", "symbol"), column(found, "target", "symbol")
    assert predicted.shape == (min(steps, STEPS), min(batch, STREAMS))
    np.testing.assert_array_equal(target, task.test.targets[:STEPS, :STREAMS])
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    biases = weights["rnn.bias_ih_l0"] + weights["rnn.bias_hh_l0"]
    for stream in range(predicted.shape[1]):
        h = np.zeros(5)
        for step, symbol in enumerate(task.test.inputs[:STEPS, stream].tolist()):
            h = np.tanh(weights["rnn.weight_ih_l0"][:, symbol] + weights["rnn.weight_hh_l0"] @ h + biases)
            scores = weights["decoder.weight"] @ h + weights["decoder.bias"]
            assert predicted[step, stream] == scores.argmax()


def test_a_split_that_is_shown_whole_has_the_error_that_evaluation_finds(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"event-{name}.txt").write_text("1 2 1 3 2\n2 2 1\n" * 12)
        (tmp_path / f"time-{name}.txt").write_text("0 0.5 0.5 2 2.25\n1 3 4\n" * 12)
    task = Events(str(tmp_path), batch_size=3)
    torch.manual_seed(0)
    model = PointProcessNetwork(5, 5, hidden=4)
    found = predict(model, task)
    metrics = evaluate(model, task, task.test)
    event, interval = (
        (column(found, "predicted", quantity), column(found, "target", quantity)) for quantity in ("event", "interval")
    )
    assert event[0].shape == interval[0].shape == task.test.targets.shape[:2]
    assert (event[0] != event[1]).mean() == pytest.approx(metrics["event_error"], rel=1e-6)
    assert np.sqrt(((interval[0] - interval[1]) ** 2).mean()) == pytest.approx(metrics["time_rmse"], rel=1e-5)


@pytest.mark.parametrize(("features", "quantities"), [(1, ["value"]), (2, ["value0", "value1"]), (9, None)])
def test_values_of_the_first_features(features: int, quantities: list[str] | None) -> None:
    sizes = {"train_steps": 9, "valid_steps": 9, "test_steps": 9, "batch_size": 3, "seed": 0}
    task = Linear(state_size=2, features=features, radius=0.9, noise=0.5, **sizes)
    model = RecurrentNetwork(features, features, hidden=5)
    found = predict(model, task)
    names = quantities or [f"value{feature}" for feature in range(4)]
    assert list(dict.fromkeys(found["quantity"])) == names
    with torch.no_grad():
        outputs, _ = model(task.test.inputs, model.initial_state(3))
    for feature, name in enumerate(names):
        np.testing.assert_allclose(column(found, "predicted", name), outputs[..., feature], rtol=1e-6)
        np.testing.assert_array_equal(column(found, "target", name), task.test.targets[..., feature])


def test_parts_that_are_decoded_one_by_one_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, task = RecurrentNetwork(4, 4, hidden=5).double(), copy(30, 6)
    whole = predict(model, task)
    monkeypatch.setattr("atbptt.models.losses.OUTPUTS", 100)  # 4 steps
    for name, values in predict(model, task).items():
        np.testing.assert_array_equal(values, whole[name])


def test_a_task_need_not_make_any(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = RecurrentNetwork(4, 4, hidden=5), copy(9, 2)
    assert isinstance(task, Predicting)
    assert predict(model, SimpleNamespace(**vars(task))) == {}  # type: ignore[arg-type]
    monkeypatch.setattr(Copy, "predictions", lambda *_: {})
    assert predict(model, task) == {}


def test_what_is_logged_of_a_probe_by_hand() -> None:
    assert bias_metrics([made_measurement()], K=3) == [
        ("K_1", 0, 2), ("K_1_low", 0, 2), ("K_1_high", 0, 3),
        ("K_0.9", 0, 3), ("K_0.9_low", 0, 2), ("K_0.9_high", 0, 4),
        ("K_0.5", 0, 4), ("K_0.5_low", 0, 4), ("K_0.5_high", 0, math.inf),
        ("K_0.1", 0, math.inf), ("K_0.1_low", 0, math.inf), ("K_0.1_high", 0, math.inf),
        ("log_relative_bias", 0, math.log(0.7)),
        ("K_1_measured", 0, 1), ("K_0.9_measured", 0, 1), ("K_0.5_measured", 0, 2), ("K_0.1_measured", 0, 3),
        ("log_relative_bias_measured", 0, math.log(0.05)),
        ("K_1_measured_of_steps", 0, 1), ("K_0.9_measured_of_steps", 0, 1),
        ("K_0.5_measured_of_steps", 0, 3), ("K_0.1_measured_of_steps", 0, 4),
        ("log_relative_bias_measured_of_steps", 0, math.log(0.2)),
        ("log_beta", 0, -1.0),
        ("gradient_cosine", 0, 0.9), ("gradient_cosine_of_steps", 0, 0.45),
        ("signal_to_noise", 0, 3.0),  # 2 over (6 - 2) / (2 streams * 3 losses)
    ]  # fmt: skip
    logged = bias_metrics([made_measurement()] * 2, K=9)  # beyond the window
    assert [replicate for _, replicate, _ in logged] == [0] * 27 + [1] * 27
    assert {("log_relative_bias_measured", 1, -math.inf), ("gradient_cosine", 1, 1.0)} < set(logged)
    assert ("signal_to_noise", 1, 0.0) in logged  # all noise
    not_finite = {name: value for name, _, value in bias_metrics([made_measurement(finite=False)], K=3)}
    unknown = {name for name, value in not_finite.items() if math.isnan(value)}
    assert unknown == {
        name for name in not_finite if "measured" not in name and not name.startswith(("gradient_cosine", "signal"))
    }


def test_profiles_have_the_bias_in_the_rows_of_the_whole_state() -> None:
    profiles = lag_profiles([made_measurement()], "mean")
    assert list(profiles["component"]) == ["all"] * 4 + ["hidden0"] * 4
    assert list(profiles["lag"]) == [1, 2, 3, 4] * 2
    for column, of_all in (
        ("relative_bias", [2.0, 0.95, 0.7, 0.3]),
        ("measured_bias", [0.8, 0.4, 0.05, 0.0]),
        ("cosine", [0.5, 0.8, 0.9, 1.0]),
        ("measured_bias_of_steps", [0.9, 0.6, 0.2, 0.0]),
        ("cosine_of_steps", [0.25, 0.4, 0.45, 0.5]),
        ("square", [4.0, 5.0, 6.0, 8.0]),
        ("spread", [1.0] * 4),
        ("signal", [3.0, 1.0, 2.0, -1.0]),
        ("signal_to_noise", [6.0, 1.0, 3.0, 0.0]),
    ):
        np.testing.assert_array_equal(profiles[column], [*of_all, *NOTHING])


def test_positions_have_the_lags_that_the_window_holds_for_them_by_hand() -> None:
    """Two probes; losses at rows 1 and 3 of a window of 4, two streams."""
    unknown = np.full(2, np.nan)
    norms = np.array([[[2, 8], [1, 4], unknown, unknown], [[4, 4], [2, 2], [1, 0.25], [0, np.inf]]])
    made = made_measurement()
    measurement = replace(made, gradients=replace(made.gradients, norms=norms))
    found = position_profiles([measurement, measurement], [1, 3], "mean")
    assert found["replicate"].tolist() == [0] * 6 + [1] * 6
    assert found["position"].tolist() == [1, 1, 3, 3, 3, 3] * 2
    assert found["lag"].tolist() == [1, 2, 1, 2, 3, 4] * 2
    assert found["phi"].tolist() == [5, 2.5, 4, 2, 0.625, np.inf] * 2
    geometric = position_profiles([measurement], [1, 3], "geometric")["phi"]
    np.testing.assert_allclose(geometric[:5], [4, 2, 4, 2, 0.5], rtol=1e-12)
    assert np.isnan(geometric[5])  # 0 times infinity


def test_log_beta_is_minus_infinity_where_no_tail_can_be_fitted() -> None:
    made = made_measurement()
    norms = np.array([1.0, 0.5, 0.0, 0.0])[None, :, None]
    bound = bias_bound(norms, np.cumsum(norms.ravel()), ProbeSettings(4, 2, positions=1))
    logged = bias_metrics([replace(made, estimate=replace(made.estimate, bound=bound))], K=1)
    assert ("log_beta", 0, -math.inf) in logged


@pytest.mark.parametrize(
    ("part", "changes", "problem"),
    [
        ("gradients", {"losses": np.array([[1.0, np.inf]])}, "its loss must be finite, and is inf in stream 1"),
        ("estimate.bound", {"values": NOTHING}, "the norms of its gradients are finite, but their sum is not"),
        (
            "estimate.measured",
            {"values": NOTHING},
            "the gradient of its recurrent parameters must be finite, and not zero throughout",
        ),
    ],
)
def test_why_a_probe_is_not_usable(part: str, changes: dict[str, Any], problem: str) -> None:
    found = made_measurement()
    assert found.problem() is None
    for name, value in changes.items():
        object.__setattr__(attrgetter(part)(found), name, value)
    assert found.problem() == problem
