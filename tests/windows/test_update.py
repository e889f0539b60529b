from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atbptt.models.recurrent import halves
from atbptt.models.states import State, detach
from atbptt.truncation import Fixed, Variable
from atbptt.windows.schemes import SCHEMES, Window, full_lr, lr_scale, scaled_lr, window_lr, windows
from atbptt.windows.streams import Stream
from atbptt.windows.update import recur_reweighted, step, window_loss
from tests.helpers.probing import network, symbols

T = 19


@pytest.fixture
def stream() -> Stream:
    return Stream(*symbols(T))


def check_gradients(model: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    parameters = list(model.parameters())
    for a, b in zip(*(torch.autograd.grad(each, parameters) for each in (ours, theirs)), strict=True):
        assert torch.linalg.vector_norm(a - b) <= 1e-12 * torch.linalg.vector_norm(b)


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 2), ("gru", 1)])
@pytest.mark.parametrize(
    ("scheme", "K", "index"),
    [(scheme, K, 0) for scheme in SCHEMES for K in (T, T + 7)]
    + [(scheme, 4, 2) for scheme in SCHEMES if scheme != "buffer"],
)
def test_a_windows_gradient_is_autograds(
    scheme: str, K: int, index: int, cell: str, layers: int, stream: Stream, loss: Any
) -> None:
    """On the window alone, from the detached state; K of the stream or more makes the whole one window."""
    model = network(cell=cell, layers=layers)
    window = list(windows(scheme, K, T))[index]
    state = model.initial_state(3)
    if window.start:
        state = detach(model(stream.inputs[: window.start], state)[1])
    outputs, _ = model(stream.inputs[window.start : window.stop], state)
    counted = loss(outputs, stream.targets[window.start : window.stop])[window.loss_start - window.start :]
    objective, mean, _ = window_loss(halves(model), loss, stream, window, state)
    torch.testing.assert_close(mean, counted.mean().detach(), rtol=1e-12, atol=0)
    check_gradients(model, objective, counted.mean())


def test_the_look_ahead_reaches_the_parameters_through_the_state_only(stream: Stream, loss: Any) -> None:
    """The buffer scheme against a second copy of the network that reads ahead."""
    inputs, targets = stream.inputs, stream.targets
    model, ahead = network(), network()
    window = Window(start=0, loss_start=0, loss_stop=4, stop=7, next_start=4)
    objective, mean, _ = window_loss(halves(model), loss, stream, window, model.initial_state(3))
    outputs, state = model(inputs[:4], model.initial_state(3))
    beyond, _ = ahead(inputs[4:7], state)
    own = loss(outputs, targets[:4])
    torch.testing.assert_close(mean, own.mean().detach(), rtol=1e-12, atol=0)
    check_gradients(model, objective, (own.mean(1).sum() + loss(beyond, targets[4:7]).mean(1).sum()) / 4)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_window_decoded_in_parts_makes_the_same_update(scheme: str, stream: Stream, loss: Any) -> None:
    """Of a window only the steps from the first loss on are decoded."""
    model, decoded = network(layers=2), []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: decoded.append(len(output)))
    state = model.initial_state(3)
    for window in windows(scheme, 7, T):
        decoded.clear()
        whole, mean, after = window_loss(halves(model), loss, stream, window, state)
        assert sum(decoded) == window.stop - window.loss_start
        objective, same, state = window_loss(halves(model), loss, stream, window, state, steps_at_once=2)
        torch.testing.assert_close((objective, same, state), (whole, mean, after), rtol=1e-12, atol=0)
        assert max(decoded[2:], default=1) <= 2
        check_gradients(model, objective, whole)


@pytest.mark.parametrize("max_norm", [1e-3, 1e3, None])
def test_a_step_clips_as_torch_does_over_all_parameters(max_norm: float | None) -> None:
    def updated(clip: Callable[[nn.Module, torch.optim.Optimizer, Tensor], Tensor | None]) -> list[Any]:
        model = network(layers=2).float()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        outputs, _ = model(torch.arange(4)[:, None], model.initial_state(1))
        return [clip(model, optimizer, outputs.square().sum()), *(p.detach() for p in model.parameters())]

    def by_torch(model: nn.Module, optimizer: torch.optim.Optimizer, objective: Tensor) -> Tensor | None:
        objective.backward()
        norm = None if max_norm is None else nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        return norm

    (norm, *ours), (norm_of_torch, *theirs) = updated(lambda *given: step(*given, max_norm)), updated(by_torch)
    assert norm == norm_of_torch
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_gradients_of_the_window_before_are_gone() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step(model, optimizer, model(torch.ones(1)).sum(), max_norm=None)
    step(model, optimizer, model.weight.sum(), max_norm=1.0)
    assert model.bias.grad is None


def test_factors_by_hand() -> None:
    """h_t = a h_{t-1} + x_t: the loss h_3 has the gradient f2 f1 a^2 with respect to x_1."""

    def recur(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        (hidden,) = state["parts"]
        states = []
        for x in inputs:
            hidden = 0.5 * hidden + x
            states.append(hidden)
        return torch.stack(states), {"parts": (hidden,)}

    inputs = torch.ones(3, 1, 1, dtype=torch.float64, requires_grad=True)
    start = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    features, state = recur_reweighted(recur, inputs, {"parts": (start,)}, [3.0, 10.0])
    assert features.flatten().tolist() == [1.5, 1.75, 1.875]
    of_inputs, of_start = torch.autograd.grad(features[2].sum(), [inputs, start], retain_graph=True)
    assert of_inputs.flatten().tolist() == [30 * 0.25, 10 * 0.5, 1.0]
    assert of_start.item() == 30 * 0.125  # nothing is multiplied on the way out of the window
    (of_state,) = torch.autograd.grad(state["parts"][0].sum(), inputs)
    assert of_state.flatten().tolist() == [30 * 0.25, 10 * 0.5, 1.0]


def test_learning_rates_by_hand() -> None:
    scalings = ("none", "sqrt", "linear")
    assert [scaled_lr(2.0, scaling, 9) for scaling in scalings] == [2.0, 6.0, 18.0]
    window, short = Window(0, 0, 12, 12, 12), Window(0, 0, 9, 9, 9)
    assert [window_lr(2.0, scaling, Fixed(36), "tf", short.losses) for scaling in scalings] == [2.0, 6.0, 18.0]
    assert [full_lr(2.0, "linear", policy, 36) for policy in (Fixed(36), Variable(9))] == [72.0, 18.0]
    assert [lr_scale(Fixed(5), "tf", window.losses), lr_scale(Variable(8), "tf", window.losses)] == [1.0, 1.5]
    assert lr_scale(Variable(8), "double-tf", window.losses) == 12 / 15


@pytest.mark.parametrize(
    ("scheme", "rates"),
    [
        ("original-buffer", [14.0] * 4 + [4.0]),  # 60 = 4 * 14 + 4
        ("double-tf", [14.0] * 2 + [14.0 * 6 / 27]),  # 60 = 2 * 27 + 6
        ("buffer", [14.0] * 4),  # the last of which sees the end, and counts 18
        ("original", [14.0] * 47),
    ],
)
def test_a_short_last_window_makes_no_longer_step_than_its_losses_deserve(scheme: str, rates: list[float]) -> None:
    """With the whole K, its step would be K / losses times as long as any other: at the end of every epoch."""
    found = [window_lr(1.0, "linear", Fixed(14), scheme, window.losses) for window in windows(scheme, 14, 60)]
    assert found == pytest.approx(rates)
