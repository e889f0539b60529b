from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atbptt.datasets import Copy, Events, Linear, Stream, SymbolTask
from atbptt.datasets.task import Predicting
from atbptt.models.networks import PointProcessNetwork, RecurrentNetwork
from atbptt.training.evaluation import CHUNK, STEPS, STREAMS, evaluate, predict


@pytest.mark.parametrize("steps", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_every_step_counts_once_whatever_the_length(steps: int) -> None:
    """Against one unbroken pass."""
    torch.manual_seed(0)
    model = RecurrentNetwork(4, 4, hidden=5, layers=2, dropout=0.5)
    split = Stream(torch.randint(4, (steps, 3)), torch.randint(4, (steps, 3)))
    with torch.no_grad():
        outputs, _ = model.eval()(split.inputs, model.initial_state(3))
        expected = torch.nn.functional.cross_entropy(outputs.double().flatten(0, 1), split.targets.flatten()).item()
    model.train()
    task = SymbolTask()
    task.output_size = 4
    found = evaluate(model, task, split)
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["ppl"] == pytest.approx(math.exp(expected), rel=1e-6)
    assert model.training


def test_no_forward_pass_puts_out_more_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbptt.models.losses.OUTPUTS", 50)
    model, task = RecurrentNetwork(4, 4, hidden=5), SymbolTask()
    task.output_size = 4
    sizes: list[int] = []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
    evaluate(model, task, Stream(torch.randint(4, (30, 3)), torch.randint(4, (30, 3))))
    assert sum(sizes) == 30 * 3 * 4
    assert max(sizes) == 48
    sizes.clear()
    evaluate(model, task, Stream(torch.randint(4, (5, 99)), torch.randint(4, (5, 99))))  # a step has more than that
    assert sizes == [99 * 4] * 5


def test_the_recurrent_half_runs_on_where_the_decoder_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a model without halves, whose outputs are what it runs over."""
    monkeypatch.setattr("atbptt.models.losses.OUTPUTS", 50)
    model, task = RecurrentNetwork(4, 4, hidden=5), SymbolTask()
    task.output_size = 4
    split = Stream(torch.randint(4, (CHUNK + 7, 3)), torch.randint(4, (CHUNK + 7, 3)))
    lengths: list[int] = []
    model.rnn.register_forward_hook(lambda _module, given, _output: lengths.append(len(given[0])))
    found = evaluate(model, task, split)
    assert lengths == [CHUNK, 7]
    lengths.clear()
    whole = Whole(model)
    assert evaluate(whole, task, split) == pytest.approx(found, rel=1e-6)
    assert set(lengths) == {4, 3}


class Whole(torch.nn.Module):
    """A model without halves."""

    def __init__(self, model: RecurrentNetwork) -> None:
        super().__init__()
        self.model = model
        self.initial_state = model.initial_state

    def forward(self, inputs: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        return self.model(inputs, state)


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
    check_events(PointProcessNetwork(5, 5, hidden=4).double(), task, DoubleStream(task.test))


class DoubleStream(Stream):
    """A stream in float64."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream.inputs, stream.targets)
        object.__setattr__(self, "of", stream)

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.of.read(start, stop)  # type: ignore[attr-defined]
        return inputs.double(), targets.double()


def check_events(model: PointProcessNetwork, task: Events, split: Stream) -> None:
    """Errors of the stored predictions against `evaluate`, on a split of few streams and steps."""
    task.test = split  # type: ignore[assignment]
    found = predict(model, task)
    metrics = evaluate(model, task, split)
    event, interval = (
        (column(found, "predicted", quantity), column(found, "target", quantity)) for quantity in ("event", "interval")
    )
    assert event[0].shape == interval[0].shape == split.targets.shape[:2]
    assert (event[0] != event[1]).mean() == pytest.approx(metrics["event_error"], rel=1e-12)
    assert np.sqrt(((interval[0] - interval[1]) ** 2).mean()) == pytest.approx(metrics["time_rmse"], rel=1e-12)


def test_book_order(shared: Path) -> None:
    """The first of its 64 streams as if they were the only ones, up to rounding."""
    task = Events(str(shared / "data" / "book_order"), 64, train="1-train", valid=None, test="1-test")
    torch.manual_seed(0)
    model = PointProcessNetwork(4, 4, hidden=8, embedding=3).double()
    task.test = whole = DoubleStream(task.test)  # type: ignore[assignment]
    found = predict(model, task)
    assert set(found["quantity"]) == {"event", "interval"}
    assert column(found, "target", "interval").shape == (STEPS, STREAMS)
    few = type(whole.of)(  # type: ignore[attr-defined]
        whole.inputs[:STEPS, :STREAMS], whole.targets[:STEPS, :STREAMS], whole.of.types  # type: ignore[attr-defined]
    )  # fmt: skip
    check_events(model, task, DoubleStream(few))
    alone = predict(model, task)
    for name in ("stream", "position", "quantity", "target"):
        np.testing.assert_array_equal(found[name], alone[name])
    np.testing.assert_allclose(found["predicted"], alone["predicted"], rtol=1e-12)
    assert 0 < found["predicted"][found["quantity"] == "interval"].mean() < task.longest_interval


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


class Mute:
    """A task without the method, but for all else as another."""

    def __init__(self, task: Copy) -> None:
        vars(self).update(vars(task))


def test_a_task_need_not_make_any(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = RecurrentNetwork(4, 4, hidden=5), copy(9, 2)
    assert isinstance(task, Predicting)
    assert predict(model, Mute(task)) == {}  # type: ignore[arg-type]
    monkeypatch.setattr(Copy, "predictions", lambda *_: {})
    assert predict(model, task) == {}
