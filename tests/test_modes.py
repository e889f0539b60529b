from __future__ import annotations

import pytest
from torch import nn

from atbptt.modes import evaluating, frozen


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
