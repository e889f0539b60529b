"""Several inputs, outputs, targets, and counters in the state, against the same network with one tensor of each."""

from typing import Any

import pytest
import torch
from torch import Tensor

from atbptt.errors import ConfigError
from atbptt.models import cross_entropy, map_tensors
from atbptt.probes.settings import ProbeSettings
from atbptt.truncation import Fixed
from atbptt.windows.loop import Windows
from tests.helpers.nesting import Parted, Plain, cells, parted_loss, plain_and_parted, plain_loss
from tests.helpers.probing import symbols
from tests.windows.test_resets import POLICIES, T, beginnings, trained


@pytest.mark.parametrize(
    ("name", "scheme"), [(name, scheme) for name, (_, schemes) in POLICIES.items() for scheme in schemes]
)
@pytest.mark.parametrize("masked", [False, True])
def test_updates_are_those_of_the_plain_network(name: str, scheme: str, masked: bool) -> None:
    """Every loss and gradient of two passes; with masks and beginnings, too, and what the loss itself counts."""
    plain, parted = plain_and_parted(T)
    counted = torch.rand(T, 3, generator=torch.Generator().manual_seed(6)) < 0.5 if masked else None
    how: dict[str, Any] = {"scheme": scheme, "counted": counted, "resets": beginnings() if masked else None, "seed": 2}
    how["probes"] = ProbeSettings(window=10, tau=6, burn_in=3, positions=2, resamples=0)

    def windows(model: Any, loss: Any, data: Any) -> Windows:
        losses = (lambda o, t: (loss(o, t), symbols_of(t) != 1)) if masked else loss
        return Windows(model, losses, *data, POLICIES[name][0](), **how)

    ours, theirs = windows(Parted(), parted_loss, parted), windows(Plain(), plain_loss, plain)
    torch.testing.assert_close(trained(ours), trained(theirs))
    assert ours.cursor.K == theirs.cursor.K


def symbols_of(targets: Any) -> Tensor:
    return targets[..., 0] if isinstance(targets, Tensor) else targets[0]


def test_streams_continue_from_a_stored_state_and_are_fed() -> None:
    _, (inputs, targets) = plain_and_parted(T)
    whole, halved = (Windows(Parted(), parted_loss, inputs, targets, Fixed(4)) for _ in range(2))
    expected = [float(window.loss().detach()) for window in whole]
    found = []
    for window in halved:
        found.append(float(window.loss().detach()))
        if len(found) == 3:
            break
    resumed = Windows(Parted(), parted_loss, inputs, targets, Fixed(4))
    resumed.load_state_dict(halved.state_dict())
    assert found + [float(window.loss().detach()) for window in resumed] == expected
    shorter = [map_tensors(lambda part: part[:9], part) for part in (inputs, targets)]
    resumed.feed(*shorter)
    assert [float(window.loss().detach()) for window in resumed] == expected[:2] + [
        float(window.loss().detach()) for window in Windows(Parted(), parted_loss, *shorter, Fixed(4))
    ][2:]
    with pytest.raises(ConfigError, match=r"^inputs \(=\{'parts': \(.*\)\}\) must be like those before.*\{'parts': \["):
        resumed.feed({"parts": tuple(inputs["parts"])}, targets)


def test_a_state_that_is_returned_in_another_order_is_stored_and_fed_rightly() -> None:
    found = []
    for model in cells():
        windows, resumed = (Windows(model, cross_entropy, *symbols(T), Fixed(4)) for _ in range(2))
        losses = [float(window.loss().detach()) for window, _ in zip(windows, range(3), strict=False)]
        resumed.load_state_dict(windows.state_dict())
        losses += [float(window.loss().detach()) for window in resumed]
        _, state = model(symbols(T)[0], model.initial_state(3))
        resumed.feed(*symbols(T), state=state)
        losses += [float(window.loss().detach()) for window, _ in zip(resumed, range(2), strict=False)]
        resumed.load_state_dict(resumed.state_dict())
        found.append([*losses, *(float(window.loss().detach()) for window in resumed)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"parts": [torch.zeros(T, 3), 3]}, r"^inputs \(=int\) must be a tensor, or a tuple, list or dict of tensors$"),
        ({}, r"^inputs \(=\{\}\) must hold at least one tensor$"),
        (
            {"parts": [torch.zeros(T, 3), torch.zeros(T - 1, 3)]},
            r"^inputs and targets \(=\(\(23, 3\), \(22, 3\), .*same",
        ),
    ],
)
def test_inputs_that_are_not_alike_are_refused(inputs: Any, message: str) -> None:
    _, (_, targets) = plain_and_parted(T)
    with pytest.raises(ConfigError, match=message):
        Windows(Parted(), parted_loss, inputs, targets, Fixed(4))
