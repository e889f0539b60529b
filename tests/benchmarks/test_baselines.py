"""The baselines compute what the project computes: gradient norms, and the parameters after some updates."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from atbptt.models.losses import cross_entropy
from atbptt.models.recurrent import halves
from atbptt.probes.gradients import lag_gradients
from atbptt.training.experiment import build
from atbptt.windows.schemes import Window
from atbptt.windows.update import step, window_loss
from benchmarks.baselines import BareTraining, PlainNetwork, PlainTraining, one_call_probe, plain_probe
from benchmarks.composing import settings_of, trainer_of
from benchmarks.sizes import RandomSymbols, Size, random_symbols

SIZES = (Size(layers=2, hidden=5, batch=3), Size(layers=1, hidden=4, batch=3, symbols=7, tied=True))
K = 4


def plain(model: nn.Module, size: Size) -> PlainNetwork:
    """The plain network with the parameters of the project's."""
    network = PlainNetwork(size.symbols, size.layers, size.hidden, size.tied).double()
    network.load_state_dict(model.state_dict())
    return network


def assert_same_parameters(model: nn.Module, other: nn.Module) -> None:
    expected = other.state_dict()
    for name, parameter in model.state_dict().items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("probe", [plain_probe, one_call_probe])
def test_the_plain_probes_give_the_projects_norms(size: Size, probe: Callable[..., np.ndarray]) -> None:
    window = 12
    sequence = random_symbols(window + 1, size.batch, size.symbols)
    inputs, targets = sequence[:-1], sequence[1:]
    model = size.network().double()
    ours = lag_gradients(model, cross_entropy, inputs, targets, [window - 1])
    network = plain(model, size)
    found = probe(network, inputs, targets)
    np.testing.assert_allclose(found, ours.norms[0], rtol=1e-9)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("kind", [PlainTraining, BareTraining])
def test_the_baselines_of_training_make_the_projects_updates(kind: type) -> None:
    """Over the short last window of an epoch, and into the next one."""
    size = Size(layers=1, hidden=6, batch=4)
    small = ("model.hidden=6", "model.embedding=null", "model.tied=false", "model.dropout=0")
    probe = ("probe.window=12", "probe.tau=8", "probe.burn_in=4")
    bare = () if kind is PlainTraining else ("clip_norm=null", "lr_scaling=none", "optimizer.weight_decay=0")
    settings = settings_of("experiment=ptb", "dataset=copy_fixed", f"truncation.K={K}", *small, *probe, *bare)
    # The bare training has no rule for a short window.
    parts = build(settings, RandomSymbols(size.symbols, 22 if kind is PlainTraining else 20, size.batch))
    parts.model.double()
    network, stream = plain(parts.model, size), parts.task.train
    trainer = trainer_of(settings, parts, torch.device("cpu"))
    if kind is PlainTraining:
        assert settings.clip_norm is not None
        decay = settings.optimizer["weight_decay"]
        training = PlainTraining(network, stream, K, settings.lr, settings.clip_norm, decay)
    else:
        training = BareTraining(network, stream, K, settings.lr, hands_over=True)
    for _ in range(8):  # five or six windows an epoch
        trainer._advance()
        training.advance()
    assert_same_parameters(network, parts.model)


def test_the_bare_training_that_hands_nothing_over_starts_each_window_in_a_zero_state() -> None:
    size, lr = SIZES[0], 0.5
    stream = RandomSymbols(size.symbols, 12, size.batch).train
    training = BareTraining(plain(size.network(), size), stream, K, lr, hands_over=False)
    training.advance()
    before = size.network().double()
    before.load_state_dict(training.model.state_dict())
    training.advance()
    # The second window: losses of steps 4..7, after a pre-roll of 3.
    second = Window(start=1, loss_start=4, loss_stop=8, stop=8, next_start=5)
    objective, _, _ = window_loss(halves(before), cross_entropy, stream, second, before.initial_state(size.batch))
    step(before, torch.optim.SGD(before.parameters(), lr=lr), objective, None)
    assert_same_parameters(training.model, before)
