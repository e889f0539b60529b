from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.modules import STEPS, B, D, Decoded, H, message_of, squared_error


def test_a_loss_of_the_wrong_shape_is_reported() -> None:
    model = Decoded(nn.LSTM(D, H))
    assert "loss (=()) must have the shape (T, B) of its targets, (1, 3)" in message_of(model, nn.functional.mse_loss)
    every_feature = message_of(model, nn.MSELoss(reduction="none"))
    assert "loss (=(1, 3, 2)) must have the shape (T, B) of its targets, (1, 3)" in every_feature


def test_a_scalar_loss_says_which_reduction_it_needs() -> None:
    assert 'reduction="none"' in message_of(Decoded(nn.LSTM(D, H)), nn.functional.mse_loss)


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


def test_a_state_of_the_wrong_shape_is_reported() -> None:
    message = message_of(Decoded(nn.GRU(D, H)), state=torch.zeros(1, B + 1, H, dtype=torch.float64))
    assert message.startswith("state (=(1, 4, 5) torch.float64) must be of floating point and of shape (L, B, H) or (B")


@pytest.mark.parametrize("targets", [torch.zeros(5, B, 2), torch.zeros(STEPS, B + 1, 2), torch.zeros(STEPS)])
def test_targets_of_other_streams_are_reported(targets: Tensor) -> None:
    message = message_of(Decoded(nn.LSTM(D, H)), targets=targets.double())
    assert message.startswith("inputs and targets (=((14, 3), ")
    assert "must begin with the same (T, B), time before streams" in message
