"""Probes of streams in which sequences begin anew, against a network that begins anew by itself."""

from typing import Any

import numpy as np
import pytest
import torch

from atbptt.errors import ConfigError
from atbptt.models.losses import cross_entropy
from atbptt.probes.measurement import probe
from tests.helpers.probing import CELLS, Resetting, network, symbols

T = 23


def test_nothing_is_known_where_a_sequence_begins_at_every_step() -> None:
    resets = torch.ones(T, 3, dtype=torch.bool)
    found = probe(network(), cross_entropy, *symbols(T), resets=resets, burn_in=5)
    assert found.problem() == "a sequence begins at every step, so that no gradient goes back a step"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layers", "at_once"), [(1, True), (2, False)])
def test_probes_see_no_lag_that_a_beginning_cuts(cell: str, layers: int, at_once: bool, way: str) -> None:
    """Both ways to measure, against the network that begins anew by itself."""
    inputs, targets = symbols(T)
    resets = torch.rand(T, 3, generator=torch.Generator().manual_seed(5)) < 0.15
    resets[:, 0] = False
    resets[3, 0] = True  # in the burn-in
    resets[10] |= at_once
    model = network(cell=cell, layers=layers)
    how: dict[str, Any] = {"burn_in": 5, "tau": 8, "positions": 3, "resamples": 4, "scheme": "tf"}
    found = probe(model, cross_entropy, inputs, targets, resets=resets, **how)
    flagged = torch.stack([inputs, resets.long()], dim=-1)
    expected = probe(Resetting(model), cross_entropy, flagged, targets, **how)
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(found.gradients.norms, expected.gradients.norms, **close, err_msg=way)
    np.testing.assert_allclose(found.bound, expected.bound, **close)
    for name in ("measured", "measured_of_steps"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), **close)
    reached = found.gradients.reached
    assert reached is not None
    known = ~np.isnan(reached)
    np.testing.assert_array_equal(found.gradients.norms[known] == 0, reached[known] == 0)
    norms = np.where(reached == 1, expected.gradients.norms, np.nan)
    by_hand = [np.nanmean(norms[:, lag]) if (reached[:, lag] == 1).any() else np.nan for lag in range(18)]
    np.testing.assert_allclose(found.phi, by_hand, **close)
    assert np.isnan(found.phi[-1]) == at_once
    assert found.problem() is None
    assert 0 < found.gradients.reach[5] < 1
    with pytest.raises(ConfigError, match=r"^average \(=geometric\) must be mean where sequences begin within"):
        probe(model, cross_entropy, inputs, targets, resets=resets, average="geometric", **how)
