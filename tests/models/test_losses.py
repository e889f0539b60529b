import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from atbptt.models.losses import cross_entropy, mean_loss, steps_at_once
from atbptt.models.networks import RecurrentNetwork

V, H = 7, 5


def network(dropout: float = 0.0, dtype: torch.dtype = torch.float64, **options: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    return RecurrentNetwork(V, V, hidden=H, embedding=H, tied=True, dropout=dropout, **options).to(dtype)


def drawn(steps: int, batch: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Features (T, B, H) and targets (T, B)."""
    generator = torch.Generator().manual_seed(steps)
    features = torch.randn(steps, batch, H, generator=generator, dtype=dtype)
    return features.requires_grad_(), torch.randint(V, (steps, batch), generator=generator)


def differentiated(mean: Tensor, *of: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(3 * mean, of, allow_unused=True)  # scaled, as the look-ahead's is
    return [mean.detach(), *(torch.zeros(()) if gradient is None else gradient for gradient in found)]


@settings(max_examples=40)
@given(
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 13),
    st.sampled_from([0.0, 0.4]),
    st.sampled_from([(torch.float32, 1e-6), (torch.float64, 1e-12)]),
)
def test_in_parts_the_loss_and_the_gradients_are_the_same(
    length: int, batch: int, steps: int, dropout: float, precision: tuple[torch.dtype, float]
) -> None:
    dtype, tolerance = precision
    model = network(dropout, dtype)
    features, targets = drawn(length, batch, dtype)
    torch.manual_seed(1)
    parts = features.tensor_split(math.ceil(length / steps))  # the same, so that dropout draws the same
    outputs = torch.cat([model.decode(part) for part in parts])
    expected = differentiated(cross_entropy(outputs, targets).mean(), features, *model.parameters())
    torch.manual_seed(1)
    mean = mean_loss(model, model.decode, cross_entropy, features, targets, steps)
    for ours, theirs in zip(differentiated(mean, features, *model.parameters()), expected, strict=True):
        assert torch.linalg.vector_norm(ours - theirs) <= tolerance * torch.linalg.vector_norm(theirs)


def test_no_more_is_decoded_at_once_than_asked_for_and_nothing_is_kept() -> None:
    model, lengths = network(), []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: lengths.append(len(output)))
    features, targets = drawn(11, 2)
    kept: list[tuple[int, ...]] = []

    def keep(saved: Tensor) -> Tensor:
        kept.append(tuple(saved.shape))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        mean_loss(model, model.decode, cross_entropy, features, targets)
        assert lengths == [11]
        assert (11 * 2, V) in kept
        lengths.clear()
        mean = mean_loss(model, model.decode, cross_entropy, features, targets, steps=4)
    assert lengths == [4, 4, 3]
    held = [tuple(saved.shape) for saved in mean.grad_fn.saved_tensors if saved is not None]  # type: ignore[union-attr]
    assert held == [(11, 2, H), (V, H), (V,)]


def test_parameters_that_require_no_gradient_get_none() -> None:
    """As the look-ahead of scheme `buffer` has it."""
    model = network().requires_grad_(False)
    features, targets = drawn(6, 2)
    mean_loss(model, model.decode, cross_entropy, features, targets, steps=2).backward()
    assert features.grad is not None
    assert features.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


class Shifted(nn.Module):
    """Two parameters that are only added have the same gradient, one object."""

    def __init__(self) -> None:
        super().__init__()
        self.shifts = nn.ParameterList([torch.zeros(V), torch.zeros(V)])

    def decode(self, features: Tensor) -> Tensor:
        return features.sum(-1, keepdim=True) + (self.shifts[0] + self.shifts[1])


def test_parameters_that_share_a_gradient_do_not_get_it_twice_and_unused_features_none() -> None:
    model = Shifted().double()
    features, targets = drawn(6, 2)
    expected = torch.autograd.grad(cross_entropy(model.decode(features), targets).mean(), list(model.parameters()))
    mean_loss(model, model.decode, cross_entropy, features, targets, steps=2).backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], list(expected), rtol=1e-12, atol=1e-15)
    features.grad = None
    decode: Callable[[Tensor], Tensor] = lambda part: model.decode(torch.ones_like(part))  # noqa: E731
    mean_loss(model, decode, cross_entropy, features, targets, steps=2).backward()
    assert features.grad is not None
    assert (features.grad == 0).all()


def test_it_is_differentiated_once() -> None:
    model = network()
    features, targets = drawn(6, 2)
    mean = mean_loss(model, model.decode, cross_entropy, features, targets, steps=2)
    mean.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        mean.backward()
    mean = mean_loss(model, model.decode, cross_entropy, features, targets, steps=2)
    (first,) = torch.autograd.grad(mean, features, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        first.sum().backward()


def test_steps_fill_the_budget_and_are_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbptt.models.losses.OUTPUTS", 50)
    assert [steps_at_once(batch, 4) for batch in (1, 3, 12, 13)] == [12, 4, 1, 1]


def test_features_may_be_changed_in_place_by_the_decoder() -> None:
    model, (features, targets) = network(), drawn(6, 2)

    def decode(part: Tensor) -> Tensor:
        return model.decode(part.tanh_())

    whole = mean_loss(model, decode, cross_entropy, features.detach().clone(), targets)
    parts = mean_loss(model, decode, cross_entropy, features, targets, steps=2)
    assert float(parts.detach()) == pytest.approx(float(whole.detach()), rel=1e-12)
