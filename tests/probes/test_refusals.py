"""What `atbptt.probe` says of what it cannot probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atbptt
from tests.helpers.modules import STEPS, B, D, Decoded, H, data, made, squared_error


class Returning(Decoded):
    """Returns something else than it should."""

    def __init__(self, change: Callable[[Tensor, Any], Any]) -> None:
        super().__init__(nn.LSTM(D, H))
        self.change = change

    def forward(self, inputs: Tensor, state: Any) -> Any:
        return self.change(*super().forward(inputs, state))

    def initial_state(self, batch: int) -> Any:
        return torch.zeros(1, batch, H, dtype=torch.float64), torch.zeros(1, batch, H, dtype=torch.float64)


def message_of(model: Any, loss: Any = squared_error, inputs: Any = None, targets: Any = None, **options: Any) -> str:
    """The error's, which must be one that is meant for users."""
    model = model.double() if isinstance(model, nn.Module) else model
    with pytest.raises(atbptt.ConfigError) as error:
        atbptt.probe(
            model, loss, data()[0] if inputs is None else inputs, data()[1] if targets is None else targets, **options
        )
    assert "\n" not in str(error.value)
    return str(error.value)


class NoNone(Decoded):
    def forward(self, inputs: Tensor, state: Any) -> Any:
        hidden, cell = state
        return super().forward(inputs, (hidden, cell))


def test_a_model_that_takes_no_None_says_what_it_needs() -> None:
    message = message_of(NoNone(nn.LSTM(D, H)))
    assert message.startswith("model (=NoNone) must run as model(inputs, state), with None for the zero state where it")
    state = torch.zeros(1, B, H, dtype=torch.float64), torch.zeros(1, B, H, dtype=torch.float64)
    assert atbptt.probe(NoNone(nn.LSTM(D, H)).double(), squared_error, *data(), state=state).problem() is None


def test_a_loss_of_the_wrong_shape_is_reported() -> None:
    model = Decoded(nn.LSTM(D, H))
    assert "loss (=()) must have the shape (T, B) of its targets, (1, 3)" in message_of(model, nn.functional.mse_loss)
    every_feature = message_of(model, nn.MSELoss(reduction="none"))
    assert "loss (=(1, 3, 2)) must have the shape (T, B) of its targets, (1, 3)" in every_feature


def test_a_state_of_the_wrong_shape_is_reported() -> None:
    message = message_of(Decoded(nn.GRU(D, H)), state=torch.zeros(1, B + 1, H, dtype=torch.float64))
    assert message.startswith("state (=(1, 4, 5) torch.float64) must be of floating point and of shape (L, B, H) or (B")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burn_in": STEPS - 3}, r"inputs \(=14\) must be burn_in \(=11\) and 4 steps at least"),
        ({"burn_in": -1}, r"burn_in \(=-1\) must be greater than or equal to 0"),
        ({"tau": STEPS}, r"tau \(=14\) must be smaller than the probe's window \(=14\)"),
        ({"positions": 0}, r"positions \(=0\) must be greater than or equal to 1"),
        ({"positions": 9}, r"positions \(=9\) must not exceed window - tau \(=4\)"),
        ({"average": "median"}, r"average \(=median\) must be one of mean, geometric"),
        ({"decay_fit": "olss"}, r"decay_fit \(=olss\) must be one of ols, max, quantile; did you mean ols"),
        ({"kept_norm": "all"}, r"kept_norm \(=all\) must be one of of_mean, sum"),
        ({"resamples": -1}, r"resamples \(=-1\) must be greater than or equal to 0"),
    ],
)
def test_options_that_break_a_rule_are_reported(options: dict[str, Any], message: str) -> None:
    model, loss = made("LSTM itself")
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.probe(model, loss, *data(), **options)


def test_the_former_name_of_an_option_is_taken() -> None:
    model, loss = made("LSTM itself")
    found, former = (atbptt.probe(model, loss, *data(), **{name: "max"}) for name in ("decay_fit", "estimator"))
    assert found.estimate.bound.log_beta == former.estimate.bound.log_beta
    assert found.estimate.bound.log_beta != atbptt.probe(model, loss, *data()).estimate.bound.log_beta
    assert atbptt.ProbeSettings(estimator="max") == atbptt.ProbeSettings(decay_fit="max")  # type: ignore[call-arg]


def test_an_option_by_both_its_names_is_refused() -> None:
    model, loss = made("LSTM itself")
    rule = r"^estimator \(=max\) is the former name of decay_fit, which is given too \(=ols\)$"
    with pytest.raises(atbptt.ConfigError, match=rule):
        atbptt.ProbeSettings(decay_fit="ols", estimator="max")  # type: ignore[call-arg]
    with pytest.raises(atbptt.ConfigError, match=rule):
        atbptt.probe(model, loss, *data(), decay_fit="ols", estimator="max")  # type: ignore[call-arg]


def test_a_scalar_loss_says_which_reduction_it_needs() -> None:
    assert 'reduction="none"' in message_of(Decoded(nn.LSTM(D, H)), nn.functional.mse_loss)


@pytest.mark.parametrize("targets", [torch.zeros(5, B, 2), torch.zeros(STEPS, B + 1, 2), torch.zeros(STEPS)])
def test_targets_of_other_streams_are_reported(targets: Tensor) -> None:
    message = message_of(Decoded(nn.LSTM(D, H)), targets=targets.double())
    assert message.startswith("inputs and targets (=((14, 3), ")
    assert "must begin with the same (T, B), time before streams" in message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda outputs, _: outputs, "Tensor"),
        (lambda outputs, state: (outputs, *state), "tuple of 3"),
        (lambda _, __: None, "null"),
    ],
)
def test_a_model_that_returns_no_pair_is_reported(change: Any, what: str) -> None:
    assert message_of(Returning(change)) == f"model (=Returning) must return the pair (outputs, state), not {what}"


def test_a_model_that_returns_no_state_is_reported() -> None:
    message = message_of(Returning(lambda outputs, _: (outputs, None)))
    assert message == "state must be a tensor, or a tuple, list or dict of tensors, not NoneType"


def test_a_model_that_does_not_run_is_not_said_to_lack_a_state() -> None:
    """The message must name the model and hand on what went wrong, not guess."""
    message = message_of(nn.Linear(D, 2))
    assert message.startswith("model (=Linear) must run as model(inputs, state), with None for the zero state where it")
    assert "positional arguments" in message


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda outputs, _: outputs.mean().item(), "loss (=float) must return a tensor (T, B)"),
        (lambda outputs, targets: squared_error(outputs, targets).detach(), "loss must depend on the model's outputs"),
        ("mse", "loss (=mse) must be a function of (outputs, targets)"),
    ],
)
def test_what_is_no_loss_is_reported(loss: Any, message: str) -> None:
    assert message_of(Decoded(nn.LSTM(D, H)), loss).startswith(message)


def test_what_is_no_module_is_reported() -> None:
    assert message_of(lambda inputs, state: (inputs, state)) == "model (=function) must be a torch.nn.Module"


def test_layers_that_read_batch_first_are_reported_with_what_to_do() -> None:
    assert "batch_first=False" in message_of(Decoded(nn.LSTM(D, H, batch_first=True)))


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_a_delta_that_no_bias_can_have_is_reported(delta: float) -> None:
    model, loss = made("LSTM itself")
    with pytest.raises(atbptt.ConfigError, match=r"delta \(=.*\) must be greater than 0"):
        atbptt.probe(model, loss, *data()).K(delta)


class Detaching(Decoded):
    def forward(self, inputs: Tensor, state: Any) -> Any:
        return super().forward(inputs, None if state is None else tuple(part.detach() for part in state))


def test_a_model_that_detaches_its_state_is_reported() -> None:
    message = message_of(Detaching(nn.LSTM(D, H)), lambda outputs, _: outputs.sum(-1))
    assert message == "model (=Detaching) must make outputs that depend on its state, which it must not detach"


def test_a_model_that_remembers_beside_its_state_is_reported() -> None:
    message = message_of(nn.GRU(D, H, bidirectional=True), lambda outputs, _: outputs.square().sum(-1))
    assert message.startswith("model (=GRU) must give in two pieces what it gives at once")
