"""Probes of losses of which not all count."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atbptt.errors import ConfigError
from atbptt.models.losses import cross_entropy
from atbptt.probes import parameters
from atbptt.probes.bias import mean_norms, resampling_weights
from atbptt.probes.gradients import lag_gradients
from atbptt.probes.measurement import measure, probe
from atbptt.probes.settings import ProbeSettings
from tests.helpers.probing import network, symbols
from tests.probes.test_parameters import truncated

POSITIONS = [5, 7, 9]
WEIGHTS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 2.0, 0.0]], dtype=torch.float64)  # (P, B)


def weighing(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of targets that carry their weights, (T, B, 2), times these."""
    return cross_entropy(outputs, targets[..., 0].long()) * targets[..., 1]


def test_what_is_measured_is_that_of_the_losses_times_their_weights(way: str) -> None:
    model, (inputs, targets) = network(layers=2), symbols(10)
    counted = torch.ones(10, 3, dtype=torch.float64)
    counted[POSITIONS] = WEIGHTS
    carrying = torch.stack([targets, counted], dim=-1).double()
    how: dict[str, Any] = {"scheme": "tf", "noise": True}
    found = lag_gradients(model, cross_entropy, inputs, targets, POSITIONS, counted=counted, **how)
    whole = lag_gradients(model, cross_entropy, inputs, targets, POSITIONS)
    expected = lag_gradients(model, weighing, inputs, carrying, POSITIONS, **how)
    scale = 9 / float(WEIGHTS.sum())
    np.testing.assert_array_equal(found.norms, whole.norms, err_msg=way)
    np.testing.assert_allclose(found.shares, WEIGHTS / WEIGHTS.sum())
    assert found.counted.tolist() == (WEIGHTS > 0).tolist()
    assert found.lags == 10
    # Up to lags that all positions have; beyond, the mean is over the positions left.
    np.testing.assert_allclose(found.kept_of_mean[:6], scale * expected.kept_of_mean[:6], rtol=1e-9)
    for name in ("bias", "cosine", "bias_of_steps", "cosine_of_steps"):
        np.testing.assert_allclose(getattr(found.parameters, name), getattr(expected.parameters, name), atol=1e-9)
    assert found.parameters.norm == pytest.approx(scale * expected.parameters.norm)
    noise, of_weighed = found.parameters.noise, expected.parameters.noise
    if way == "adjoint":
        # Of the pairs of streams, those count in which both do.
        pairs = 3 * (1 - float((WEIGHTS.sum(dim=0) / WEIGHTS.sum()).square().sum()))
        for name in ("signal", "along"):
            expected_one = scale**2 * getattr(of_weighed, name) * 2 / pairs
            np.testing.assert_allclose(getattr(noise, name), expected_one, rtol=1e-6)
    else:
        assert noise is of_weighed is None


def test_the_noise_is_that_of_the_losses_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an update has as many as count in the stream, of which probes see more."""
    monkeypatch.setattr(parameters, "FEW_SKETCHES", 2**15)
    model, (inputs, targets), positions = network(), symbols(6, batch=4), [3, 5]
    counted = torch.zeros(6, 4, dtype=torch.bool)
    counted[3, 1] = counted[5] = True
    how: dict[str, Any] = {"scheme": "tf", "noise": True, "counted": counted, "share": 0.25}
    found = lag_gradients(model, cross_entropy, inputs, targets, positions, **how).parameters
    own = np.array(
        [truncated(model, cross_entropy, inputs, targets, int(t), int(b)) for t, b in counted.nonzero()]
    )  # (losses, W, n)
    means = own.cumsum(axis=1) / np.arange(1, 7)[:, None]  # under tf, losses see 1..K steps
    np.testing.assert_allclose(found.noise.square, (means**2).sum(axis=-1).mean(axis=0), rtol=0.05)
    np.testing.assert_allclose(found.noise.losses, np.arange(1, 7) / 4)


def test_phi_is_the_mean_of_what_counts_and_resamples_are_of_it() -> None:
    model, (inputs, targets) = network(), symbols(10)
    counted = torch.ones(10, 3, dtype=torch.float64)
    counted[POSITIONS] = WEIGHTS
    weights = resampling_weights(50, 3, 3, np.random.default_rng(1))
    found = lag_gradients(model, cross_entropy, inputs, targets, POSITIONS, counted=counted, weights=weights)
    mean = (found.norms[:, 0] * WEIGHTS.numpy()).sum() / float(WEIGHTS.sum())
    assert mean_norms(found.norms, found.shares)[0] == pytest.approx(mean)
    assert mean_norms(np.where(found.norms == found.norms[0, 0, 0], np.inf, found.norms), found.shares)[0] == np.inf
    some = (weights * WEIGHTS.numpy()).sum(axis=(1, 2)) > 0
    assert 0 < some.sum() < 50
    kept = weights[some] * WEIGHTS.numpy()
    np.testing.assert_allclose(found.weights, kept / kept.sum(axis=(1, 2), keepdims=True))
    assert found.resampled_kept_of_mean.shape == (some.sum(), 10)


def padded(lengths: tuple[int, ...], steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences of unequal length with a loss at the end of each, and what counts."""
    inputs, targets = symbols(steps, len(lengths))
    counted = torch.zeros(steps, len(lengths), dtype=torch.bool)
    counted[torch.tensor(lengths) - 1, range(len(lengths))] = True
    return inputs, targets, counted


def test_a_probe_looks_where_losses_count(way: str) -> None:
    """At the ends of sequences: its phi is the mean of those of each by itself."""
    model, lengths = network(), (16, 13, 20)
    inputs, targets, counted = padded(lengths, 20)
    how: dict[str, Any] = {"tau": 9, "resamples": 0, "positions": 4}
    found = probe(model, cross_entropy, inputs, targets, counted=counted, **how)
    alone = [
        probe(model, cross_entropy, inputs[:length, [b]], targets[:length, [b]], **how | {"positions": 1}).phi / 3
        for b, length in enumerate(lengths)
    ]
    expected = np.nanmean([np.pad(phi, (0, 20 - len(phi)), constant_values=np.nan) for phi in alone], axis=0)
    np.testing.assert_allclose(found.phi, expected, rtol=1e-9, err_msg=way)
    by_loss = probe(model, partial(cross_entropy, ignore_index=-1), inputs, torch.where(counted, targets, -1), **how)
    np.testing.assert_array_equal(by_loss.phi, found.phi)
    assert found.problem() is None
    with pytest.raises(ConfigError, match=r"counted \(=0\) must count a loss from step burn_in \+ tau \(=9\) on"):
        probe(model, cross_entropy, inputs, targets, counted=counted & (torch.arange(20) < 9)[:, None], **how)


def test_where_nothing_counts_a_probe_says_so(way: str) -> None:
    model, (inputs, targets) = network(), symbols(10)
    nothing = torch.zeros(10, 3)
    weights = resampling_weights(5, 1, 3, np.random.default_rng(1))
    how: dict[str, Any] = {"counted": nothing, "scheme": "tf"}
    found = lag_gradients(model, cross_entropy, inputs, targets, [9], weights=weights, **how)
    assert (found.lags, len(found.weights)) == (0, 0), way
    assert np.isnan(found.parameters.bias).all()
    settings = ProbeSettings(window=10, tau=6, burn_in=0, positions=1)
    made = measure(model, cross_entropy, inputs, targets, settings, "tf", counted=nothing, drawn_for=("test", 0))
    assert made.problem() == "no loss at its positions counts"
    assert made.K(0.5) is None


@pytest.mark.parametrize(("ends", "missed"), [((19, 18, 9), 0), ((19, 10, 9), 2), ((19, 0, 0), 0)])
def test_streams_whose_losses_are_not_probed_are_told(ends: tuple[int, ...], missed: int) -> None:
    """Each has one loss that counts, or none; one is probed at the last step, another at the one before."""
    counted = torch.arange(20)[:, None] == torch.tensor(ends)
    counted[0] = False
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        probe(network(), cross_entropy, *symbols(20), counted=counted.bfloat16())
    expected = f"{missed} of the 3 streams with losses that count have none at the steps probed: give more positions"
    assert [str(each.message)[: len(expected)] for each in found] == [expected] * (missed > 0)
    assert all(each.filename == __file__ for each in found)
