from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.models.networks import CELLS, RecurrentNetwork
from atbptt.models.recurrent import halves
from atbptt.models.states import State, tensors
from atbptt.randomness import seed_global
from atbptt.windows.schemes import SCHEMES, Window, windows
from atbptt.windows.streams import Stream
from atbptt.windows.update import recur_reweighted, step, window_loss

Loss = Callable[[Tensor, Tensor], Tensor]
SYMBOLS = 5


@pytest.fixture
def stream() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randint(SYMBOLS, (19, 3), generator=generator),
        torch.randint(SYMBOLS, (19, 3), generator=generator),
    )


def network(cell: str = "lstm", layers: int = 1) -> RecurrentNetwork:
    torch.manual_seed(0)
    return RecurrentNetwork(SYMBOLS, SYMBOLS, cell=cell, layers=layers, hidden=4).double()


def gradients(model: nn.Module, objective: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(objective, list(model.parameters())))


def check_updates(case: dict[str, Any], arrays: Any, model: nn.Module, scheme: str, loss: Loss) -> list[float]:
    """One pass of a golden case; the summed loss of each window."""
    prefix = f"case{case['case']}_"
    inputs, targets = torch.tensor(arrays[f"{prefix}x"]), torch.tensor(arrays[f"{prefix}y"])
    optimizer = torch.optim.SGD(model.parameters(), lr=case["lr"], weight_decay=case["weight_decay"])
    cuts = list(windows(scheme, case["K"], len(inputs)))
    if scheme == "original":
        cuts.pop()  # the golden pass stops one step short of the end
    state = model.initial_state(inputs.shape[1])  # type: ignore[operator]
    losses = []
    for window in cuts:
        objective, mean, state = window_loss(halves(model), loss, Stream(inputs, targets), window, state)
        clip = case["clip_norm"]
        if not case.get("normalized", True):
            objective = objective * window.losses
        elif clip is not None and "style" in case:
            clip = clip / window.losses
        step(model, optimizer, objective, clip)
        losses.append(float(mean) * window.losses)
    for name, parameter in model.named_parameters():
        expected = arrays[f"{prefix}after.{name}"]
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    return losses


def test_golden_updates_of_every_scheme(golden: Any, golden_network: Any, loss: Loss) -> None:
    cases, arrays = golden("tbptt_updates")
    for case in cases:
        model = golden_network(case, arrays, "before")
        losses = check_updates(case, arrays, model, case["style"], loss)
        assert math.isclose(sum(losses), case["summed_train_loss"], rel_tol=1e-9), case
    assert {case["style"] for case in cases} == {"tf", "original", "double-tf", "buffer"}


def test_golden_updates_of_overlapping_windows(golden: Any, golden_network: Any, loss: Loss) -> None:
    cases, arrays = golden("overlapping_updates")
    for case in cases:
        model = golden_network(case, arrays, "before")
        losses = check_updates(case, arrays, model, "original-buffer", loss)
        counts = [w.losses for w in windows("original-buffer", case["K"], case["seq_len"])]
        means = np.array(losses) / counts
        np.testing.assert_allclose(means, arrays[f"case{case['case']}_window_loss"], rtol=1e-9)


@pytest.mark.parametrize(("scheme", "cell", "layers"), list(itertools.product(SCHEMES, CELLS, (1, 2))))
def test_K_of_the_stream_or_more_gives_autograds_gradient(
    scheme: str, cell: str, layers: int, stream: tuple[Tensor, Tensor], loss: Loss
) -> None:
    inputs, targets = stream
    model = network(cell, layers)
    outputs, _ = model(inputs, model.initial_state(3))
    whole = loss(outputs, targets)
    expected = gradients(model, whole[-1].mean() if scheme == "original" else whole.mean())
    for K in (len(inputs), len(inputs) + 7):
        (window,) = windows(scheme, K, len(inputs))
        objective, _, _ = window_loss(halves(model), loss, Stream(inputs, targets), window, model.initial_state(3))
        for ours, theirs in zip(gradients(model, objective), expected, strict=True):
            assert torch.linalg.vector_norm(ours - theirs) <= 1e-12 * torch.linalg.vector_norm(theirs)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_state_handed_over_is_that_of_one_unbroken_pass(scheme: str, stream: tuple[Tensor, Tensor], loss: Loss) -> None:
    """With parameters that stay, every window starts in the state that one pass has at its first step."""
    inputs, targets = stream
    model = network(layers=2)
    unbroken = [model.initial_state(3)]
    for t in range(len(inputs)):
        unbroken.append(model(inputs[t : t + 1], unbroken[-1])[1])
    state = model.initial_state(3)
    for window in windows(scheme, 4, len(inputs)):
        for ours, theirs in zip(tensors(state), tensors(unbroken[window.start]), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
            assert not ours.requires_grad
        _, _, state = window_loss(halves(model), loss, Stream(inputs, targets), window, state)


@pytest.mark.parametrize("scheme", ["tf", "double-tf", "original", "original-buffer"])
def test_a_windows_gradient_is_cut_at_its_start(scheme: str, stream: tuple[Tensor, Tensor], loss: Loss) -> None:
    """Against autograd on the window alone, from the detached state."""
    inputs, targets = stream
    model = network()
    window = list(windows(scheme, 4, len(inputs)))[2]
    _, state = model(inputs[: window.start], model.initial_state(3))
    state = tuple(part.detach() for part in state)
    outputs, _ = model(inputs[window.start : window.stop], state)
    counted = loss(outputs, targets[window.start : window.stop])[window.loss_start - window.start :]
    objective, mean, _ = window_loss(halves(model), loss, Stream(inputs, targets), window, state)
    torch.testing.assert_close(mean, counted.mean().detach(), rtol=1e-12, atol=0)
    for ours, theirs in zip(gradients(model, objective), gradients(model, counted.mean()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-15)


def test_the_look_ahead_reaches_the_parameters_through_the_state_only(
    stream: tuple[Tensor, Tensor], loss: Loss
) -> None:
    """The buffer scheme against a second copy of the network that reads ahead."""
    inputs, targets = stream
    model, ahead = network(), network()
    window = Window(start=0, loss_start=0, loss_stop=4, stop=7, next_start=4)
    objective, mean, _ = window_loss(halves(model), loss, Stream(inputs, targets), window, model.initial_state(3))
    outputs, state = model(inputs[:4], model.initial_state(3))
    beyond, _ = ahead(inputs[4:7], state)
    own = loss(outputs, targets[:4])
    expected = (own.mean(1).sum() + loss(beyond, targets[4:7]).mean(1).sum()) / 4
    torch.testing.assert_close(mean, own.mean().detach(), rtol=1e-12, atol=0)
    for ours, theirs in zip(gradients(model, objective), gradients(model, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-15)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_window_decoded_in_parts_makes_the_same_update(
    scheme: str, stream: tuple[Tensor, Tensor], loss: Loss
) -> None:
    model = network(layers=2)
    state = model.initial_state(3)
    for window in windows(scheme, 7, len(stream[0])):
        whole, mean, state_after = window_loss(halves(model), loss, Stream(*stream), window, state)
        expected = gradients(model, whole)
        objective, same, state = window_loss(halves(model), loss, Stream(*stream), window, state, steps_at_once=2)
        torch.testing.assert_close((objective, same), (whole, mean), rtol=1e-12, atol=0)
        for ours, theirs in zip([*gradients(model, objective), *state], [*expected, *state_after], strict=True):
            assert torch.linalg.vector_norm(ours - theirs) <= 1e-12 * torch.linalg.vector_norm(theirs)


def test_a_window_decoded_in_parts_with_dropout_has_the_same_bits_again(
    stream: tuple[Tensor, Tensor], loss: Loss
) -> None:
    """All that is random in it comes from the global generator: a run continues from a checkpoint exactly."""
    torch.manual_seed(0)
    model = RecurrentNetwork(SYMBOLS, SYMBOLS, hidden=4, layers=2, dropout=0.5)
    window = list(windows("original-buffer", 7, len(stream[0])))[1]

    def made(step: int) -> list[Tensor]:
        seed_global("dropout", 0, step)
        state = model.initial_state(3)
        objective, _, after = window_loss(halves(model), loss, Stream(*stream), window, state, steps_at_once=2)
        return [objective.detach(), *gradients(model, objective), *after]

    assert all(torch.equal(a, b) for a, b in zip(made(5), made(5), strict=True))
    assert not torch.equal(made(5)[0], made(6)[0])


def test_a_step_clips_the_norm_and_reports_it_as_it_was() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    norm = step(model, optimizer, 3 * model.weight.sum(), max_norm=0.5)
    assert norm is not None
    assert float(norm) == pytest.approx(3.0)
    assert model.weight.item() == pytest.approx(-0.5, rel=1e-5)
    assert step(model, optimizer, 3 * model.weight.sum(), max_norm=None) is None
    assert model.weight.item() == pytest.approx(-3.5, rel=1e-5)


@pytest.mark.parametrize("max_norm", [1e-3, 1e3])
def test_clipping_is_torchs_over_all_parameters(max_norm: float) -> None:
    def updated(clip: Callable[[nn.Module, torch.optim.Optimizer, Tensor], Tensor | None]) -> list[Tensor]:
        model = network(layers=2).float()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        outputs, _ = model(torch.arange(4)[:, None], model.initial_state(1))
        norm = clip(model, optimizer, outputs.square().sum())
        assert norm is not None
        return [norm, *model.parameters()]

    def by_torch(model: nn.Module, optimizer: torch.optim.Optimizer, objective: Tensor) -> Tensor:
        objective.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        return norm

    for ours, theirs in zip(updated(lambda *given: step(*given, max_norm)), updated(by_torch), strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_of_the_window_before_are_gone() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step(model, optimizer, model(torch.ones(1)).sum(), max_norm=None)
    before = model.bias.detach().clone()
    step(model, optimizer, model.weight.sum(), max_norm=1.0)
    assert torch.equal(model.bias, before)
    assert model.bias.grad is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_steps_whose_loss_is_taken_are_decoded(scheme: str, stream: tuple[Tensor, Tensor], loss: Loss) -> None:
    """A pre-roll's outputs would be most of the work where the symbols are many."""
    model, steps = network(), []
    model.decoder.register_forward_hook(lambda _module, _inputs, output: steps.append(len(output)))
    state = model.initial_state(3)
    for window in windows(scheme, 4, len(stream[0])):
        steps.clear()
        _, _, state = window_loss(halves(model), loss, Stream(*stream), window, state)
        assert sum(steps) == window.stop - window.loss_start
    assert steps


def test_by_hand() -> None:
    """h_t = a h_{t-1} + x_t: the loss h_3 has the gradient f2 f1 a^2 with respect to x_1."""
    a = torch.tensor(0.5, dtype=torch.float64)

    def recur(inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states = []
        for x in inputs:
            state = a * state + x
            states.append(state)
        return torch.stack(states), state

    inputs = torch.ones(3, 1, 1, dtype=torch.float64, requires_grad=True)
    start = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    features, state = recur_reweighted(recur, inputs, start, [3.0, 10.0])
    assert features.flatten().tolist() == [1.5, 1.75, 1.875]
    of_inputs, of_start = torch.autograd.grad(features[2].sum(), [inputs, start], retain_graph=True)
    assert of_inputs.flatten().tolist() == [30 * 0.25, 10 * 0.5, 1.0]
    assert of_start.item() == 30 * 0.125  # nothing is multiplied on the way out of the window
    (of_state,) = torch.autograd.grad(state.sum(), inputs)
    assert of_state.flatten().tolist() == [30 * 0.25, 10 * 0.5, 1.0]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_with_factors_of_1_it_is_the_model_at_once(cell: str) -> None:
    torch.manual_seed(0)
    model = RecurrentNetwork(5, 5, cell=cell, layers=2, hidden=4).double()
    inputs = torch.randint(5, (7, 3))
    found = []
    for recur in (model.recur, lambda *given: recur_reweighted(model.recur, *given, [1.0] * 6)):
        features, state = recur(inputs, model.initial_state(3))
        parameters = [parameter for name, parameter in model.named_parameters() if "decoder" not in name]
        of_parameters = torch.autograd.grad(features.square().sum(), parameters)
        found.append([features, *tensors(state), *of_parameters])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


def test_a_state_of_any_structure_is_reweighted() -> None:
    def recur(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        first, second = state["both"]
        after = {"both": (first + inputs[0], second * 2)}
        return (first + second).unsqueeze(0), after

    start = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    inputs = torch.zeros(3, 1, 1, dtype=torch.float64)
    features, _ = recur_reweighted(recur, inputs, {"both": (start, start)}, [2.0, 5.0])
    (gradient,) = torch.autograd.grad(features[2].sum(), start)
    assert gradient.item() == 10 * (1 + 4)


def test_torchs_layers_are_as_they_were_afterwards() -> None:
    enabled = torch.backends.mkldnn.enabled
    layer = nn.LSTM(2, 3)
    recur_reweighted(layer, torch.ones(2, 1, 2), (torch.zeros(1, 1, 3),) * 2, [1.0])
    assert torch.backends.mkldnn.enabled == enabled
