"""Probes of networks with several inputs and outputs, and counters in the state, against plain ones."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atbptt.models.losses import cross_entropy
from atbptt.probes.measurement import Measurement, probe
from tests.helpers.nesting import Parted, Plain, cells, parted_loss, plain_and_parted, plain_loss
from tests.helpers.probing import network, symbols

T = 23
HOW: dict[str, Any] = {"burn_in": 5, "tau": 8, "positions": 3, "resamples": 4, "scheme": "tf"}


def check_same(found: Measurement, expected: Measurement) -> None:
    for name in ("phi", "bound", "measured", "measured_of_steps"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("masked", [False, True])
def test_counters_have_no_gradient(masked: bool) -> None:
    """Phi and the biases are those of the network whose count is of floating point."""
    plain, parted = plain_and_parted(T)
    generator = torch.Generator().manual_seed(5)
    masks = {name: torch.rand(T, 3, generator=generator) < 0.3 for name in ("resets", "counted")} if masked else {}
    found = probe(Parted(), parted_loss, *parted, **masks, **HOW)
    check_same(found, probe(Plain(), plain_loss, *plain, **masks, **HOW))
    assert found.gradients.components == ("state0_0", "state1_0")
    assert found.gradients.unsuited


class Described(nn.Module):
    """A network of symbols in a dict, with its logits in another; all its state is that of torch's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(layers=2)

    def forward(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        outputs, state = self.inner(inputs["symbol"], state)
        return {"logits": outputs}, state


def test_layers_of_torch_are_taken_apart(way: str) -> None:
    inputs, targets = symbols(T)
    found = probe(Described(), lambda o, t: cross_entropy(o["logits"], t[0]), {"symbol": inputs}, (targets,), **HOW)
    check_same(found, probe(network(layers=2), cross_entropy, inputs, targets, **HOW))
    assert (found.gradients.unsuited is None) == (way == "adjoint"), way


@pytest.mark.parametrize("resets", [False, True])
def test_parts_of_the_state_are_named_in_whatever_order_they_are_returned(resets: bool) -> None:
    anew = torch.zeros(14, 3, dtype=torch.bool)
    anew[5, 0] = anew[9, 1] = True
    ours, theirs = (
        probe(model, cross_entropy, *symbols(14), burn_in=3, resets=anew if resets else None) for model in cells()
    )
    assert ours.gradients.components == ("hidden0", "cell0")
    np.testing.assert_allclose(ours.gradients.component_norms, theirs.gradients.component_norms)
    np.testing.assert_allclose(ours.bound, theirs.bound)
    np.testing.assert_allclose(ours.measured, theirs.measured)
