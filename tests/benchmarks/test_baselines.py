from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from atbptt.models.losses import cross_entropy
from atbptt.models.recurrent import halves
from atbptt.probes.gradients import lag_gradients
from atbptt.windows.schemes import Window, full_losses, scaled_lr, windows
from atbptt.windows.streams import Stream
from atbptt.windows.update import step, window_loss
from benchmarks.baselines import BareTraining, PlainNetwork, PlainTraining, one_call_probe, plain_probe
from benchmarks.sizes import RandomSymbols, Size, random_symbols

SIZES = (Size(layers=2, hidden=5, batch=3), Size(layers=1, hidden=4, batch=3, symbols=7, tied=True))


def plain(size: Size) -> PlainNetwork:
    """The plain network with the parameters of the project's."""
    model = PlainNetwork(size.symbols, size.layers, size.hidden, size.tied).double()
    model.load_state_dict(size.network().double().state_dict())
    return model


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("probe", [plain_probe, one_call_probe])
def test_the_plain_probes_give_the_projects_norms(size: Size, probe: Callable[..., np.ndarray]) -> None:
    window = 12
    sequence = random_symbols(window + 1, size.batch, size.symbols)
    inputs, targets = sequence[:-1], sequence[1:]
    ours = lag_gradients(size.network().double(), cross_entropy, inputs, targets, [window - 1])
    model = plain(size)
    found = probe(model, inputs, targets)
    assert found.shape == (window, size.batch)
    np.testing.assert_allclose(found, ours.norms[0], rtol=1e-9)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_plain_training_makes_the_projects_updates(size: Size) -> None:
    """Over the short last window of an epoch, and into the next."""
    K, lr, clip_norm, weight_decay = 4, 0.5, 0.3, 0.01
    stream = RandomSymbols(size.symbols, 14, size.batch).train
    model = size.network().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)
    for _ in range(2):
        state: Any = model.initial_state(size.batch)
        for window in windows("original-buffer", K, stream.length):
            objective, _, state = window_loss(halves(model), cross_entropy, stream, window, state)
            share = window.losses / full_losses("original-buffer", K)
            optimizer.param_groups[0]["lr"] = scaled_lr(lr, "sqrt", K * share)
            step(model, optimizer, objective, clip_norm / window.losses)
    training = PlainTraining(plain(size), stream, K, lr, clip_norm, weight_decay)
    for _ in range(2 * 4):
        training.advance()
    expected = model.state_dict()
    for name, parameter in training.model.state_dict().items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-9, atol=1e-12)


def test_the_bare_training_makes_the_update_of_a_window_from_a_zero_state() -> None:
    size, K, lr = SIZES[0], 4, 0.5
    stream = RandomSymbols(size.symbols, 12, size.batch).train
    training = BareTraining(plain(size), stream, K, lr, hands_over=False)
    training.advance()
    before = size.network().double()
    before.load_state_dict(training.model.state_dict())
    training.advance()
    # The second window: losses of steps 4..7, after a pre-roll of 3.
    second = Window(start=1, loss_start=4, loss_stop=8, stop=8, next_start=5)
    objective, _, _ = window_loss(halves(before), cross_entropy, stream, second, before.initial_state(size.batch))
    step(before, torch.optim.SGD(before.parameters(), lr=lr), objective, None)
    expected = before.state_dict()
    for name, parameter in training.model.state_dict().items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-9, atol=1e-12)


def test_the_bare_training_that_hands_over_is_ours_without_clipping() -> None:
    size, K, lr = SIZES[0], 4, 0.5
    stream = RandomSymbols(size.symbols, 12, size.batch).train
    model = size.network().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    state = model.initial_state(size.batch)
    training = BareTraining(plain(size), stream, K, lr, hands_over=True)
    for window in windows("original-buffer", K, stream.length):
        objective, _, state = window_loss(halves(model), cross_entropy, stream, window, state)
        step(model, optimizer, objective, None)
        training.advance()
    expected = model.state_dict()
    for name, parameter in training.model.state_dict().items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-9, atol=1e-12)


def test_the_targets_of_random_symbols_are_the_next_inputs() -> None:
    stream: Stream = RandomSymbols(symbols=6, steps=9, batch_size=2).train
    assert (stream.length, stream.batch) == (9, 2)
    assert torch.equal(stream.targets[:-1], stream.inputs[1:])
    assert not torch.equal(stream.inputs, replace(stream, inputs=stream.inputs.roll(1, 1)).inputs)
