"""ARTBP: its cuts, its weights, and what they are for, a gradient without bias."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.models.networks import RecurrentNetwork
from atbptt.models.recurrent import halves, starting_state
from atbptt.truncation import Policy, Probe, Progress, Randomized
from atbptt.windows.cursor import Cursor
from atbptt.windows.streams import Stream
from atbptt.windows.update import window_loss
from tests.helpers.probing import OfCells

Loss = Callable[[Tensor, Tensor], Tensor]
T, B = 7, 2
HAZARDS = ["constant", "decreasing"]


class Scripted(Randomized):
    """Cuts the stream where it was given."""

    def __init__(self, lengths: list[int], **options: Any) -> None:
        super().__init__(**options)
        self.lengths = iter(lengths)

    def update(self, progress: Progress, probe: Probe) -> None:  # noqa: ARG002
        self.K = next(self.lengths)


def model(kind: str) -> nn.Module:
    torch.manual_seed(1)
    made = OfCells() if kind == "two cells" else RecurrentNetwork(5, 5, cell=kind, layers=2, hidden=3)
    for parameter in made.double().parameters():
        parameter.data.mul_(2.0)  # far lags carry a signal
    return made


def stream() -> Stream:
    generator = torch.Generator().manual_seed(0)
    return Stream(*(torch.randint(5, (T, B), generator=generator) for _ in range(2)))


def flat_gradient(objective: Tensor, network: nn.Module) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(objective, list(network.parameters()))])


def full_gradient(network: nn.Module, data: Stream, loss: Loss) -> Tensor:
    outputs, _ = network(data.inputs, starting_state(network, data.inputs))
    return flat_gradient(loss(outputs, data.targets).sum(), network)


def gradient_of_a_pass(network: nn.Module, data: Stream, loss: Loss, policy: Policy) -> Tensor:
    """The sum of the gradients of all windows' summed losses, at parameters that stay."""
    cursor = Cursor("tf", policy, data.length)
    state = starting_state(network, data.inputs)
    total = torch.zeros(sum(parameter.numel() for parameter in network.parameters()), dtype=torch.float64)
    while not cursor.epochs_done:
        window = cursor.next_window(lambda **_: [])
        factors = policy.adjoint_factors(window.stop - window.start)
        objective, _, state = window_loss(halves(network), loss, data, window, state, factors=factors)
        total += flat_gradient(objective * window.losses * data.batch, network)
        cursor.advance(window, state)
    return total


def cuttings(policy: Randomized) -> Iterator[tuple[list[int], float]]:
    """Every way to cut T steps, as lengths of windows, and its probability."""
    for cut in itertools.product([False, True], repeat=T - 1):
        lengths, probability, since = [1], 1.0, 1
        for cut_here in cut:
            (c,) = policy.cut_probabilities(since, 1)
            probability *= c if cut_here else 1 - c
            since = 1 if cut_here else since + 1
            lengths = [*lengths, 1] if cut_here else [*lengths[:-1], lengths[-1] + 1]
        yield lengths, probability


@pytest.mark.parametrize("kind", ["lstm", "two cells"])
@pytest.mark.parametrize("hazard", HAZARDS)
def test_the_gradient_averaged_over_every_way_to_cut_is_the_full_one(hazard: str, kind: str, loss: Loss) -> None:
    """Exactly, by enumeration."""
    network, data = model(kind), stream()
    options = {"length": 2.5, "hazard": hazard, "alpha": 3.0}
    expected, probabilities = torch.zeros(()), []
    for lengths, probability in cuttings(Randomized(**options)):
        expected = expected + probability * gradient_of_a_pass(network, data, loss, Scripted(lengths, **options))
        probabilities.append(probability)
    assert len(probabilities) == 2 ** (T - 1)
    assert sum(probabilities) == pytest.approx(1, rel=1e-12)
    full = full_gradient(network, data, loss)
    assert torch.linalg.vector_norm(expected - full) < 1e-12 * torch.linalg.vector_norm(full)


@pytest.mark.parametrize(("hazard", "alpha"), [("constant", 4.0), ("decreasing", 4.0), ("decreasing", 6.0)])
def test_windows_have_the_expected_length(hazard: str, alpha: float) -> None:
    """The sum of the probabilities that a window has more than n steps, n = 0, 1, ...; and of 4000 draws."""
    policy = Randomized(length=10.0, hazard=hazard, alpha=alpha)
    survival = np.cumprod(1 - policy.cut_probabilities(1, 1_000_000))
    assert 1 + survival.sum() == pytest.approx(10, rel=1e-3)
    lengths = []
    for step in range(4000):
        policy.update(Progress(step, 10**6), lambda **_: pytest.fail("probed"))
        lengths.append(policy.K)
    assert abs(np.mean(lengths) - 10) < 4 * np.std(lengths) / 4000**0.5
    for n in (1, 5, 20):
        share = survival[n - 1]
        assert abs(np.mean(np.array(lengths) > n) - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_a_decreasing_probability_leaves_a_tail_that_is_a_power_of_the_length() -> None:
    policy = Randomized(length=10.0, hazard="decreasing", alpha=4.0)
    survival = np.cumprod(1 - policy.cut_probabilities(1, 20_000))
    assert np.log(survival[19_999] / survival[9_999]) / np.log(2) == pytest.approx(-4, abs=0.02)
    np.testing.assert_allclose(policy.cut_probabilities(1, 3), [4 / 31, 4 / 32, 4 / 33])
    np.testing.assert_allclose(policy.cut_probabilities(30, 1), [4 / 60])


def test_gradients_that_are_not_cut_are_reweighted() -> None:
    assert Randomized(length=5.0, hazard="constant").adjoint_factors(4) == [1.25, 1.25, 1.25]
    decreasing = Randomized(length=5.0, hazard="decreasing", alpha=2.0).adjoint_factors(3)
    np.testing.assert_allclose(decreasing, [6 / 4, 7 / 5])
    assert Randomized(length=5.0).adjoint_factors(1) == []


@pytest.mark.parametrize("hazard", HAZARDS)
def test_no_window_leaves_the_stream_and_long_ones_are_drawn_to_their_end(hazard: str) -> None:
    for step in range(200):
        policy = Randomized(length=50.0, hazard=hazard)
        policy.update(Progress(step, 60, left=60 - step % 60), lambda **_: [])
        assert 1 <= policy.K <= 60 - step % 60
    rarely = Randomized(length=1e9, hazard=hazard)
    rarely.update(Progress(3, 5000, left=4997), lambda **_: [])
    assert rarely.K == 4997
