from __future__ import annotations

import pytest
import torch
from torch import nn

from atbptt.models.modes import evaluating, flushing_subnormals, frozen


def test_frozen_thaws_only_what_it_froze() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    with frozen(model):
        assert not model.weight.requires_grad
    assert model.weight.requires_grad
    assert not model.bias.requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_returns_to_the_mode_before_even_after_an_error(training: bool) -> None:
    model = nn.Dropout().train(training)

    def fail() -> None:
        with evaluating(model):
            assert not model.training
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert model.training is training


def test_a_part_that_is_always_in_evaluation_mode_stays_so() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    with evaluating(model):
        assert not model[0].training
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


@pytest.mark.parametrize("before", [True, False])
def test_subnormals_are_zero_within_and_as_before_after(before: bool) -> None:
    def product() -> float:
        return float(torch.tensor(1e-30) * 1e-10)

    torch.set_flush_denormal(before)
    try:
        with flushing_subnormals():
            assert product() == 0
        assert (product() == 0) is before
    finally:
        torch.set_flush_denormal(False)
