from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import atbptt
from atbptt.probes.settings import ProbeSettings
from tests.helpers.modules import data, made


@given(window=st.integers(2, 200), data=st.data())
def test_positions_are_evenly_spaced_between_tau_and_the_windows_last_step(window: int, data: st.DataObject) -> None:
    tau = data.draw(st.integers(1, window - 1))
    count = data.draw(st.integers(1, window - tau))
    positions = ProbeSettings(window, tau, positions=count, fit_from=0).loss_positions
    assert len(positions) == count
    assert positions[-1] == window - 1
    assert positions[0] >= (tau if count > 1 else window - 1)
    assert len(set(np.diff(positions))) <= 1


def test_the_former_name_of_an_option_is_accepted_but_not_beside_its_new_one() -> None:
    model, loss = made("LSTM itself")
    found, former = (atbptt.probe(model, loss, *data(), **{name: "max"}) for name in ("decay_fit", "estimator"))
    assert found.estimate.bound.log_beta == former.estimate.bound.log_beta
    assert found.estimate.bound.log_beta != atbptt.probe(model, loss, *data()).estimate.bound.log_beta
    assert ProbeSettings(estimator="max") == ProbeSettings(decay_fit="max")  # type: ignore[call-arg]
    rule = r"^estimator \(=max\) is the former name of decay_fit, which is given too \(=ols\)$"
    with pytest.raises(atbptt.ConfigError, match=rule):
        ProbeSettings(decay_fit="ols", estimator="max")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"burn_in": 2.5}, r"^burn_in \(=2.5\) must be a whole number$"),
        ({"tau": 1.5}, r"^tau \(=1.5\) must be a whole number$"),
        ({"positions": "2"}, r"^positions \(=2\) must be a whole number$"),
        ({"seed": "a"}, r"^seed \(=a\) must be a whole number, at least 0$"),
    ],
)
def test_numbers_of_a_probe_are_whole(given: dict[str, Any], message: str) -> None:
    model, loss = made("LSTM itself")
    with pytest.raises(atbptt.ConfigError, match=message):
        atbptt.probe(model, loss, *data(), **given)


def test_shares_lie_in_their_range() -> None:
    model, loss = made("LSTM itself")
    found = atbptt.probe(model, loss, *data())
    for delta in (0, "a"):
        with pytest.raises(atbptt.ConfigError, match=rf"^delta \(={delta}\) must be greater than 0$"):
            found.K(delta)  # type: ignore[arg-type]
    with pytest.raises(atbptt.ConfigError, match=r"^level \(=2\) must lie between 0 and 1$"):
        found.estimate.bound.interval(0.5, 2)
