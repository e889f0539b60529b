from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from atbptt.errors import ConfigError
from atbptt.models.networks import RecurrentNetwork
from atbptt.models.recurrent import halves
from atbptt.truncation import Full, Progress
from atbptt.windows.cursor import Cursor
from atbptt.windows.schemes import SCHEMES
from atbptt.windows.streams import Stream
from atbptt.windows.update import window_loss


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "original"])
def test_the_whole_stream_is_one_window_with_autograds_gradient(
    scheme: str, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    model = RecurrentNetwork(5, 5, hidden=4).double()
    inputs, targets = torch.randint(5, (2, 19, 3)).unbind()
    cursor = Cursor(scheme, Full(), 19)
    window = cursor.next_window(lambda **_: pytest.fail("probed"))
    assert (window.start, window.loss_start, window.loss_stop, window.stop) == (0, 0, 19, 19)
    objective, _, state = window_loss(halves(model), loss, Stream(inputs, targets), window, model.initial_state(3))
    outputs, _ = model(inputs, model.initial_state(3))
    parameters = list(model.parameters())
    whole = torch.autograd.grad(loss(outputs, targets).mean(), parameters)
    torch.testing.assert_close(torch.autograd.grad(objective, parameters), whole, rtol=1e-11, atol=1e-15)
    cursor.advance(window, state)
    assert (cursor.epochs_done, cursor.position) == (1, 0)


def test_with_a_window_the_stream_is_cut_in_pieces_of_that_length() -> None:
    cursor = Cursor("tf", Full(window=8), 19)
    found = []
    while not cursor.epochs_done:
        found.append(cursor.next_window(lambda **_: []))
        cursor.advance(found[-1], None)
    assert [(window.start, window.loss_start, window.stop) for window in found] == [(0, 0, 8), (8, 8, 16), (16, 16, 19)]


def test_K_is_the_streams_length_as_soon_as_it_is_known() -> None:
    policy = Full()
    assert Cursor("tf", policy, 19).K == 19
    policy.update(Progress(0, 19), lambda **_: [])
    assert policy.K == 19


def test_full_refuses() -> None:
    with pytest.raises(ConfigError, match=r"window \(=0\) must be at least 1"):
        Full(window=0)
