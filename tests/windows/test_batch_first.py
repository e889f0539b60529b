"""Data, outputs and losses (B, T, ...), against the same with the time first."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from atbptt.errors import ConfigError
from atbptt.models.losses import cross_entropy
from atbptt.probes.measurement import probe
from atbptt.probes.settings import ProbeSettings
from atbptt.truncation import Adaptive, Fixed
from atbptt.windows.loop import Windows
from tests.helpers.probing import Elman, network, symbols
from tests.windows.test_resets import POLICIES, T, beginnings, trained


class Halved(nn.Module):
    """A network of two halves, with the streams first; it counts the steps that it decodes."""

    decoded = 0

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(layers=2)
        self.initial_state, self.state_names = self.inner.initial_state, self.inner.state_names

    def recur(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        features, state = self.inner.recur(inputs.T, state)
        return features.transpose(0, 1), state

    def decode(self, features: Tensor) -> Tensor:
        self.decoded += features.shape[1]
        return self.inner.decode(features)

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        features, state = self.recur(inputs, state)
        return self.decode(features), state


def elman(batch_first: bool) -> nn.Module:
    return Elman(kind=nn.LSTM, batch_first=batch_first, num_layers=2)


PAIRS: dict[str, tuple[Any, Any]] = {
    "halves": (Halved, lambda: network(layers=2)),
    "one of torch": (lambda: elman(True), lambda: elman(False)),
}


def streams_first(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    assert outputs.shape[:2] == targets.shape
    assert len(targets) == 3
    return cross_entropy(outputs.view(1, -1, 5), targets.view(1, -1)).view(targets.shape), targets != 1


def time_before(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return cross_entropy(outputs, targets), targets != 1


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(
    ("name", "scheme"), [("bound", "original-buffer"), ("measured", "tf"), ("fixed", "buffer"), ("randomized", "tf")]
)
def test_updates_are_those_of_the_time_first(kind: str, name: str, scheme: str) -> None:
    (inputs, targets), resets = symbols(T), beginnings()
    counted = torch.rand(T, 3, generator=torch.Generator().manual_seed(6)) < 0.7
    first = tuple(torch.full((2, 3, 4), value, dtype=torch.float64) for value in (0.5, -1.0))
    how: dict[str, Any] = {"scheme": scheme, "state": first}
    how["probes"] = ProbeSettings(window=10, tau=6, burn_in=3, positions=2, resamples=0)
    masks = {"counted": counted, "resets": resets}
    make, (ours, theirs) = POLICIES[name][0], PAIRS[kind]
    turned = {mask: values.T for mask, values in masks.items()}
    found = Windows(ours(), streams_first, inputs.T, targets.T, make(), batch_first=True, **how, **turned)
    expected = Windows(theirs(), time_before, inputs, targets, make(), **how, **masks)
    torch.testing.assert_close(trained(found), trained(expected))
    assert found.cursor.K == expected.cursor.K


def test_steps_of_the_pre_roll_are_not_decoded() -> None:
    inputs, targets = symbols(T)
    model = Halved()
    windows = Windows(model, cross_entropy, inputs.T, targets.T, Fixed(4), batch_first=True)
    model.decoded = 0
    for window in windows:
        window.loss()
    assert model.decoded == T


@pytest.mark.parametrize("kind", PAIRS)
def test_probes_are_those_of_the_time_first(kind: str) -> None:
    (inputs, targets), resets = symbols(T), beginnings()
    how: dict[str, Any] = {"burn_in": 5, "tau": 8, "positions": 3, "resamples": 4, "scheme": "tf"}
    ours, theirs = PAIRS[kind]
    found = probe(ours(), streams_first, inputs.T, targets.T, resets=resets.T, batch_first=True, **how)
    expected = probe(theirs(), time_before, inputs, targets, resets=resets, **how)
    assert found.gradients.unsuited is expected.gradients.unsuited is None
    assert found.gradients.components == expected.gradients.components
    for name in ("phi", "bound", "measured"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, err_msg=name)
    assert found.gradients.parameters is not None
    assert expected.gradients.parameters is not None
    assert [name.removeprefix("inner.") for name in found.gradients.parameters.names] == [
        *expected.gradients.parameters.names
    ]


def test_batches_of_a_loader_are_read_as_they_come() -> None:
    inputs, targets = symbols(12, 24)
    loader = DataLoader(TensorDataset(inputs.T, targets.T), batch_size=4)
    probes = ProbeSettings(window=8, tau=5, burn_in=2, positions=2)
    policy = Adaptive(delta=0.5, K_init=4, K_min=2, K_max=9, update_every=0.5)
    first = next(iter(loader))
    windows = Windows(elman(True), cross_entropy, *first, policy, batch_first=True, probes=probes, epoch_steps=72)
    for window in windows.each(loader):
        window.loss().backward()
    assert (windows.epoch, windows.probe_steps) == (1, probes.steps)
    with pytest.raises(ConfigError, match=r"^inputs and targets \(=\(\(12, 4\), \(11, 4\)\)\) must begin with"):
        windows.feed(first[0], first[1][:, :-1])


def test_what_cannot_be_turned_is_refused_by_its_own_name() -> None:
    inputs, targets = symbols(T)
    with pytest.raises(ConfigError, match=r"^model \(=Linear\) must run as"):
        Windows(nn.Linear(3, 2), cross_entropy, inputs.T, targets.T, Fixed(4), batch_first=True)
    with pytest.raises(ConfigError, match=r"^model \(=int\) must be a torch.nn.Module"):
        Windows(3, cross_entropy, inputs.T, targets.T, Fixed(4), batch_first=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^loss \(=mse\) must be a function"):
        Windows(elman(True), "mse", inputs.T, targets.T, Fixed(4), batch_first=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^loss \(=\(\)\) must have the shape \(T, B\)"):
        next(iter(Windows(elman(True), lambda o, _: o.mean(), inputs.T, targets.T, Fixed(4), batch_first=True))).loss()
