import pytest
import torch
from torch import nn

from atbptt.models import evaluating, flushing_subnormals, frozen, native_layers, thawed


def test_frozen_thaws_only_what_it_froze() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    with frozen(model):
        assert not model.weight.requires_grad
        with thawed([model.weight]):
            assert model.weight.requires_grad
        assert not model.weight.requires_grad
    assert model.weight.requires_grad
    assert not model.bias.requires_grad


def test_evaluating_returns_every_part_to_its_mode_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    with pytest.raises(ValueError, match=r"^$"), evaluating(model):  # noqa: PT012
        assert not model[0].training
        raise ValueError
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


def test_native_layers_use_no_library() -> None:
    libraries = torch.backends.mkldnn, torch.backends.cudnn
    before = [library.enabled for library in libraries]
    with native_layers():
        assert [library.enabled for library in libraries] == [False, False]
    assert [library.enabled for library in libraries] == before
