from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atbptt.datasets import Copy, Stream, SymbolTask
from atbptt.errors import ConfigError
from atbptt.models.networks import RecurrentNetwork
from atbptt.probes import ProbeSettings
from atbptt.training.checks import check_fit, check_probe, check_task, read_pass
from atbptt.truncation import Adaptive, ProgressPerCost


def task() -> Any:
    return Copy(min_length=2, max_length=3, symbols=4, train_steps=9, valid_steps=9, test_steps=9, batch_size=3, seed=0)


def check(made: Any) -> None:
    check_task(made)
    check_fit(Model(), made)


class Model(nn.Module):
    """A minimal network that keeps to the protocol; what tests break is an attribute."""

    def __init__(self, state: Any = None, last_only: bool = False, forgetful: bool = False) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, 4)
        self.state, self.last_only, self.forgetful = state, last_only, forgetful

    def initial_state(self, batch: int) -> Any:
        return torch.zeros(batch, 2) if self.state is None else self.state

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        steps = torch.zeros(len(inputs), inputs.shape[1], 2)
        outputs = self.decoder(steps if self.forgetful else steps + state)
        return (outputs[-1:] if self.last_only else outputs), state


class Halved(Model):
    """The same with its halves, the second of which may be another than the whole has."""

    def __init__(self, other: float = 0.0) -> None:
        super().__init__()
        self.other = other

    def recur(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        return torch.zeros(len(inputs), inputs.shape[1], 2) + state, state

    def decode(self, features: Tensor) -> Tensor:
        return self.decoder(features) + self.other


def test_what_keeps_to_the_protocols_passes() -> None:
    check(task())
    check_fit(RecurrentNetwork(4, 4, layers=2, dropout=0.5), task())
    check_fit(Halved(), task())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object(), r"^model._target_ \(=object\) must make a torch.nn.Module$"),
        (nn.Linear(2, 2), r"^model \(=Linear\) must run as model\(inputs, state\), with None for the zero state where"),
        (Model(state=torch.zeros(2)), r"^model.state .*must be of shape \(L, B, H\) or \(B, H\)"),
        (
            Model(state=torch.zeros(3, 2, dtype=torch.int64)),
            r"^model.state \(=\['torch.int64'\]\) must have a tensor of floating point",
        ),
        (Model(state="none"), r"^model.state \(=str\) must be a tensor, or a tuple, list or dict of tensors$"),
        (Model(last_only=True), r"^model.outputs \(=\(1, 3\)\) must have the axes \(T, B\) of the inputs first"),
        (Halved(other=0.01), r"^model \(=Halved\) must make the same outputs by decode\(recur\(inputs\)\) as"),
        (Model(forgetful=True), r"^model._target_ \(=Model\) must make outputs that depend on its state"),
    ],
)
def test_a_model_that_does_not_is_reported(model: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_fit(model, task())


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda _: None, r"^dataset.train_pass\(4\) \(=NoneType\) must be an atbptt.datasets.Stream$"),
        (lambda _: {}[1], r"^dataset fails in train_pass\(4\): KeyError: 1 \(line \d+ of "),
        (
            lambda _: Stream(torch.zeros(8, 3), torch.zeros(8, 3)),
            r"^dataset.train_pass\(4\).inputs \(=\(\(8, 3\), torch.float32\)\) must be like those of the pass be",
        ),
    ],
)
def test_the_stream_of_a_pass_that_is_not_like_the_others_is_reported(made: Any, message: str) -> None:
    changing = task()
    changing.train_pass = made
    with pytest.raises(ConfigError, match=message):
        read_pass(changing, 4, seed=0)


def test_the_stream_of_a_pass_is_the_same_whatever_was_drawn_before() -> None:
    """Of a class that draws from the global generators."""
    changing, read = task(), []
    changing.train_pass = lambda _: Stream(torch.randint(4, (9, 3)), torch.randint(4, (9, 3)))
    for number, seed in ((4, 0), (4, 0), (5, 0), (4, 1)):
        torch.rand(7)
        read_pass(changing, number, seed)
        read.append(changing.train.inputs)
    assert torch.equal(read[0], read[1])
    assert not any(torch.equal(read[0], other) for other in read[2:])


def test_streams_say_what_counts_and_no_loss_of_a_data_set() -> None:
    of_pairs = task()
    loss = of_pairs.loss
    of_pairs.loss = lambda outputs, targets: (loss(outputs, targets), targets > 0)
    with pytest.raises(ConfigError, match=r"^dataset.loss \(=a pair\) must return losses alone: a stream says which"):
        check_fit(Halved(), of_pairs)
    nothing = task()
    nothing.valid = replace(nothing.valid, counted=torch.zeros(nothing.valid.inputs.shape[:2]))
    with pytest.raises(ConfigError, match=r"^dataset.valid.counted \(=0\) must count a loss"):
        check_task(nothing)


PREDICTIONS = r"^dataset.predictions.symbol"


def predicting(pair: Any) -> dict[str, Any]:
    return {"predictions": lambda outputs, targets: {"symbol": pair(outputs, targets)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": None}, r"^dataset.test \(=NoneType\) must be an atbptt.datasets.Stream"),
        ({"metric_names": ()}, r"^dataset.metric_names \(=\(\)\) must name a metric"),
        ({"valid": Stream(torch.zeros(0, 3), torch.zeros(0, 3))}, r"^dataset.valid.inputs and .* none of them 0"),
        ({"train": Stream(torch.zeros(9, 3), torch.zeros(8, 3))}, r"^dataset.train.inputs and .* the same \(T, B"),
        ({"metric_names": ("pll",)}, r"^dataset.metric_names \(=pll\) is not among .*: loss, ppl; did you mean"),
        (
            {"loss": lambda outputs, targets: (outputs[..., 0] - targets).log() * 0 - torch.inf},
            r"^dataset.loss \(=(-inf|nan)\) must be finite for the model's first outputs, on the first 8 steps",
        ),
        (
            {"measures": lambda *_: {}[1]},
            r"^dataset fails on the first steps of the data: KeyError: 1 \(line \d+ of ",
        ),
        (
            predicting(lambda outputs, targets: (outputs, targets)),
            rf"{PREDICTIONS} \(=\[\(8, 3, 4\), \(8, 3\)\]\) must be two",
        ),
        (
            predicting(lambda outputs, targets: (outputs.argmax(-1)[:1], targets)),
            rf"{PREDICTIONS} \(=\[\(1, 3\), \(8, 3\)\]\)",
        ),
        (predicting(lambda _, targets: (targets.numpy(), targets)), rf"{PREDICTIONS} \(=\['ndarray', \(8, 3\)\]\)"),
        (
            predicting(lambda _, targets: [targets]),
            rf"{PREDICTIONS} \(=\[\(8, 3\)\]\) must be two tensors of the shape \(T, B\) of the targets, \(8, 3\)",
        ),
    ],
)
def test_a_data_set_that_does_not_is_reported(changes: dict[str, Any], message: str) -> None:
    broken = task()
    vars(broken).update(changes)
    with pytest.raises(ConfigError, match=message):
        check(broken)
    with pytest.raises(ConfigError, match=r"^dataset._target_ \(=SymbolTask\) must have train, valid, test, "):
        check(SymbolTask())


def test_measuring_a_model_without_recurrent_parameters_is_refused() -> None:
    probe = ProbeSettings(window=4, tau=2, burn_in=0, positions=1)
    options = {"delta": 0.5, "K_init": 2, "K_min": 1, "K_max": 5, "update_every": 0.5}
    check_probe(probe, Model(), task(), Adaptive(**options))
    policy = Adaptive(**options, estimator="measured")
    message = r"^truncation.estimator \(=measured\) needs recurrent parameters, .* model Model depends on none"
    with pytest.raises(ConfigError, match=message):
        check_probe(probe, Model(), task(), policy)
    with pytest.raises(ConfigError, match=r"^truncation \(=ProgressPerCost\) needs the noise of the gradient: "):
        check_probe(probe, Model(), task(), ProgressPerCost(K_max=5, K_init=2))
