"""Streams in which sequences begin anew, against a network that begins anew by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError
from atbptt.models.losses import cross_entropy
from atbptt.probes.settings import ProbeSettings
from atbptt.truncation import Adaptive, Fixed, Full, Randomized
from atbptt.truncation.policy import AnyPolicy
from atbptt.windows.loop import Windows
from atbptt.windows.schemes import SCHEMES
from tests.helpers.probing import Resetting, network, symbols

T = 23


def beginnings() -> Tensor:
    resets = torch.rand(T, 3, generator=torch.Generator().manual_seed(5)) < 0.15
    resets[8] = torch.tensor([True, True, True])
    resets[0, 1] = resets[22, 2] = True
    return resets


def trained(windows: Windows, passes: int = 2) -> list[Tensor]:
    """The loss and the gradients of every window, with updates between them."""
    parameters, found = list(windows.model.parameters()), []
    for window in (window for _ in range(passes) for window in windows):
        objective = window.loss()
        gradients = torch.autograd.grad(objective, parameters, materialize_grads=True)
        found += [objective.detach(), *gradients]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.5 * gradient
    return found


def adaptive(estimator: str) -> Adaptive:
    return Adaptive(delta=0.4, K_init=3, K_min=2, K_max=8, update_every=0.5, estimator=estimator)


POLICIES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "fixed": (lambda: Fixed(4), SCHEMES),
    "full": (lambda: Full(), ("tf",)),
    "bound": (lambda: adaptive("bound"), ("original-buffer",)),
    "measured": (lambda: adaptive("measured"), ("tf",)),
    "randomized": (lambda: Randomized(length=5), ("tf",)),
}


@pytest.mark.parametrize(
    ("name", "scheme"), [(name, scheme) for name, (_, schemes) in POLICIES.items() for scheme in schemes]
)
@pytest.mark.parametrize("given", [False, True])
def test_updates_are_those_of_a_network_that_begins_anew_by_itself(name: str, scheme: str, given: bool) -> None:
    """Every loss and gradient of two passes; with masks, too, and from a state that is not zero."""
    (inputs, targets), resets = symbols(T), beginnings()
    first = tuple(torch.full((1, 3, 4), value, dtype=torch.float64) for value in (0.5, -1.0)) if given else None
    counted = torch.rand(T, 3, generator=torch.Generator().manual_seed(6)) < 0.5 if given else None
    probes = ProbeSettings(window=10, tau=6, burn_in=3, positions=2, resamples=0)
    how: dict[str, Any] = {"scheme": scheme, "counted": counted, "probes": probes, "seed": 2}
    make = POLICIES[name][0]
    policies: list[AnyPolicy] = [make(), make()]
    ours = Windows(network(), cross_entropy, inputs, targets, policies[0], resets=resets, state=first, **how)
    by_itself, flagged = Resetting(network(), first), torch.stack([inputs, resets.long()], dim=-1)
    theirs = Windows(by_itself, cross_entropy, flagged, targets, policies[1], **how)
    torch.testing.assert_close(trained(ours), trained(theirs))
    assert policies[0].K == policies[1].K
    assert ours.passed_over == theirs.passed_over


def test_streams_that_are_fed_bring_their_own_beginnings() -> None:
    (inputs, targets), resets = symbols(T), beginnings()
    ours, again = (Windows(network(), cross_entropy, inputs, targets, Fixed(5)) for _ in range(2))
    ours.feed(inputs, targets, resets=resets)
    other = Windows(network(), cross_entropy, inputs, targets, Fixed(5), resets=resets)
    expected = trained(other)
    torch.testing.assert_close(trained(ours), expected)
    assert trained(again)[0] != expected[0]


@pytest.mark.parametrize(
    ("resets", "found"),
    [(torch.ones(T, 3), r"\(23, 3\) torch.float32"), (torch.ones(T, 1).bool(), r"\(23, 1\) torch.bool"), (3, "int")],
)
def test_what_does_not_say_where_sequences_begin_is_refused(resets: Any, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"^resets \(={found}\) must say by booleans \(T, B\), \(23, 3\), where"):
        Windows(network(), cross_entropy, *symbols(T), Fixed(5), resets=resets)


def test_losses_of_a_look_ahead_do_not_reach_a_learned_beginning() -> None:
    """With scheme `buffer` the next window counts them: here they begin anew where this window's losses end."""
    model, first = network(), nn.Parameter(torch.randn(1, 3, 4, dtype=torch.float64))
    cell = torch.zeros_like(first)
    model.initial_state = lambda batch: (first[:, :batch], cell)  # type: ignore[assignment, method-assign]
    inputs, targets = symbols(6)
    resets = torch.zeros(6, 3, dtype=torch.bool)
    resets[3] = True
    window = next(iter(Windows(model, cross_entropy, inputs, targets, Fixed(3), resets=resets, scheme="buffer")))
    found = torch.autograd.grad(window.loss(), first)
    expected = torch.autograd.grad(cross_entropy(model(inputs[:3], (first, cell))[0], targets[:3]).mean(), first)
    torch.testing.assert_close(found, expected)
