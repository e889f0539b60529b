from __future__ import annotations

import numpy as np
import pytest

from analysis.diagnosis.report import _bar, _fall
from atbptt.probes.settings import ProbeSettings


def test_what_is_said_of_the_decay() -> None:
    phi, settings = 0.5 ** np.arange(8.0), ProbeSettings(8, 4, 0, 1)
    assert _fall(phi, np.log(0.5), settings) == (
        "Of its size at lag 1, phi is at most 10 % from lag 5 on, 1 % from lag 8 on. Within the window it does not "
        "fall to 0.1 %. Fitted from lag 5 on, its half-life is 1 steps (log beta = -0.693)."
    )
    assert _fall(phi[:3], -np.inf, ProbeSettings(8, 4, 0, 1, fit_from=0)) == (
        "Within the window it does not fall to 10 % of its size at lag 1. From lag 1 on, too few lags carry a signal "
        "to fit a decay."
    )
    assert _fall(phi, 0.1, settings).endswith(" Fitted from lag 5 on, it does not decay (log beta = 0.1).")


@pytest.mark.parametrize(("share", "length"), [(1.0, 32), (0.1, 28), (1e-8, 0), (1e-30, 0), (0.0, 0)])
def test_bars(share: float, length: int) -> None:
    assert _bar(share) == "#" * length
