"""Probes of streams in which sequences begin anew, against a network that begins anew by itself."""

from typing import Any

import numpy as np
import pytest
import torch

from atbptt.models.losses import cross_entropy
from atbptt.probes.measurement import probe
from tests.helpers.probing import CELLS, Resetting, network, symbols

T = 23


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_probes_see_no_lag_that_a_beginning_cuts(cell: str, layers: int, way: str) -> None:
    """Both ways to measure, against the network that begins anew by itself."""
    inputs, targets = symbols(T)
    resets = torch.rand(T, 3, generator=torch.Generator().manual_seed(5)) < 0.15
    resets[:, 0] = False
    resets[3, 0] = True  # in the burn-in
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
    np.testing.assert_array_equal(found.gradients.norms[~np.isnan(reached) & (reached == 0)], 0)
    np.testing.assert_allclose(np.nan_to_num(found.phi * found.gradients.reach), expected.phi, **close)
    assert 0 < found.gradients.reach[5] < 1
