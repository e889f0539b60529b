import math

import numpy as np
import pytest

from analysis.diagnosis.report import Length, answer, bar, decay, judgement, lag_of_share, length_cells, shown_lags
from atbptt.probes import ProbeSettings, RelativeBias

INF = math.inf


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        (
            [Length(0.9, 11, 1, "1 to 2"), Length(0.1, INF, 7, "5 to none")],
            "Under scheme=tf this network needs a K of 1 (1 to 2) for a relative bias of at most 0.9 and 7 (5 to none) "
            "for 0.1, as measured; by the bound, 11 and none.",
        ),
        (
            [Length(0.9, 11, 4), Length(0.1, 30, INF, "38 to none")],
            "Under scheme=tf this network needs a K of 4 for a relative bias of at most 0.9 and more than 40 (38 to "
            "none) for 0.1, as measured; by the bound, 11 and 30.",
        ),
        (
            [Length(0.9, 30, 20), Length(0.1, 50, 21)],  # 21 is in the far half of the window
            "Under scheme=tf this network needs a K of 20 for a relative bias of at most 0.9 and at least 21 for 0.1, "
            "as measured; by the bound, 30 and 50.",
        ),
        (
            [Length(0.9, 11, None), Length(0.5, 32, None), Length(0.1, INF, None)],
            "By the bound, this network needs a K of 11 for a relative bias of at most 0.9, 32 for 0.5 and more than "
            "the bound can tell for 0.1.",
        ),
    ],
)
def test_the_answer(lengths: list[Length], expected: str) -> None:
    assert answer(lengths, window=40, scheme="tf") == expected


@pytest.mark.parametrize(
    ("lengths", "K", "expected"),
    [
        ([Length(0.9, 11, 1), Length(0.1, INF, 7)], 6, "Its present K = 6 is long enough for 0.9."),
        ([Length(0.9, 11, 1), Length(0.1, INF, 7)], 7, "Its present K = 7 is long enough for 0.9 and 0.1."),
        ([Length(0.9, 11, 3), Length(0.1, INF, 36)], 38, "Its present K = 38 is long enough for 0.9."),
        ([Length(0.1, INF, 36)], 38, "Whether its present K = 38 is long enough, the window does not tell."),
        ([Length(0.9, 11, None), Length(0.1, INF, None)], 10, "Its present K = 10 is too short for any of these."),
        ([Length(0.9, 11, None)], 10, "Its present K = 10 is too short for that."),
    ],
)
def test_the_judgement(lengths: list[Length], K: int, expected: str) -> None:
    assert judgement(lengths, K, window=40) == expected


def test_a_length_with_its_interval() -> None:
    values = np.array([3.0, 0.9, 0.5, 0.1])
    resampled = np.stack([values * factor for factor in np.linspace(0.5, 1.5, 20)])
    assert length_cells(RelativeBias(values, resampled), 0.5) == ("3", "2 to 4")
    assert length_cells(RelativeBias(values, resampled[:0]), 0.5) == ("3", "")
    assert length_cells(RelativeBias(values, resampled), 0.04) == ("none", "none to none")


def test_the_lag_from_which_on_phi_stays_below_a_share_of_its_first() -> None:
    assert lag_of_share(np.array([8.0, 4.0, 0.8, 0.9, 0.7, 0.1]), 0.1) == 5  # lag 3 is, lag 4 is not
    assert lag_of_share(np.array([8.0, 0.8]), 0.1) == 2
    assert lag_of_share(np.array([1.0, 0.5, 0.2]), 0.1) is None


@pytest.mark.parametrize(
    ("window", "lags"),
    [(2, [1, 2]), (10, [1, 2, 5, 10]), (40, [1, 2, 5, 10, 20, 40]), (101, [1, 2, 5, 10, 20, 50, 100, 101])],
)
def test_lags_that_are_shown(window: int, lags: list[int]) -> None:
    assert shown_lags(window) == lags


def test_the_decay_in_words() -> None:
    phi, settings = 0.5 ** np.arange(8.0), ProbeSettings(8, 4, 0, 1)
    assert decay(phi, np.log(0.5), settings) == (
        "Of its size at lag 1, phi is at most 10 % from lag 5 on, 1 % from lag 8 on. Within the window it does not "
        "fall to 0.1 %. Fitted from lag 5 on, its half-life is 1 steps (log beta = -0.693)."
    )
    assert decay(phi[:3], -np.inf, ProbeSettings(8, 4, 0, 1, fit_from=0)) == (
        "Within the window it does not fall to 10 % of its size at lag 1. From lag 1 on, too few lags carry a signal "
        "to fit a decay."
    )
    assert decay(phi, 0.0, settings).endswith(" Fitted from lag 5 on, it does not decay (log beta = 0).")


@pytest.mark.parametrize(("share", "length"), [(1.0, 32), (0.1, 28), (1e-8, 0), (1e-30, 0), (0.0, 0)])
def test_bars(share: float, length: int) -> None:
    assert bar(share) == "#" * length
