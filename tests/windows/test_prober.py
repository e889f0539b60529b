from __future__ import annotations

from typing import Any

import pytest

import atbptt
from tests.helpers.modules import LSTMCellByCell, data, squared_error


@pytest.mark.parametrize(
    ("options", "resamples", "message"),
    [
        ({"confidence": 0.9}, 0, r"resamples \(=0\) must be at least 1 for the policy's confidence \(=0.9\)"),
        ({"confidence": 0.9, "estimator": "measured"}, 9, r"confidence \(=0.9\) must be null with estimator=measured"),
    ],
)
def test_what_a_policy_cannot_ask_is_reported_at_once(options: dict[str, Any], resamples: int, message: str) -> None:
    policy = atbptt.Adaptive(delta=0.5, K_init=2, K_min=1, K_max=5, update_every=0.5, **options)
    probes = atbptt.ProbeSettings(window=8, tau=4, burn_in=2, positions=2, resamples=resamples)
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.Windows(LSTMCellByCell().double(), squared_error, *data(), policy, probes=probes)
