from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from atbptt.probes.settings import ProbeSettings


@given(window=st.integers(2, 200), data=st.data())
def test_positions_are_evenly_spaced_between_tau_and_the_windows_last_step(window: int, data: st.DataObject) -> None:
    tau = data.draw(st.integers(1, window - 1))
    count = data.draw(st.integers(1, window - tau))
    positions = ProbeSettings(window, tau, positions=count, fit_from=0).loss_positions
    assert len(positions) == count
    assert positions[-1] == window - 1
    assert positions[0] >= (tau if count > 1 else window - 1)
    assert len(set(np.diff(positions))) <= 1
