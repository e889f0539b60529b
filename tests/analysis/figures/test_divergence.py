import math

import pandas as pd
import pytest

from analysis.figures.divergence import highest, limit


def frame(runs: list[list[float]], first: int = 1) -> pd.DataFrame:
    rows = [(str(run), step, value) for run, values in enumerate(runs) for step, value in enumerate(values, first)]
    return pd.DataFrame(rows, columns=["experiment_id", "step", "value"])


@pytest.mark.parametrize(
    ("runs", "perplexity", "top"),
    [
        ([[1.0, 1.0], [1.0, 4.9], [1.0, 5.1]], True, 4.9),  # 5 times 1
        ([[100.0, 1.0], [100.0, 1.0, 499.0], [100.0, 1.0, 501.0]], True, 499.0),  # not of the best values
        ([[-4.0, -4.7], [-4.0, -2.5], [-4.0, -2.3]], False, -2.5),  # log 5 = 1.61 above -4
        ([[math.nan, math.inf]], True, -math.inf),
    ],
)
def test_highest(runs: list[list[float]], perplexity: bool, top: float) -> None:
    assert highest(frame(runs), perplexity) == top


def test_half_of_the_runs_may_diverge_at_once() -> None:
    values = frame([[6.0, 1e9], [6.0, 1e9], [6.0, 2.0]], first=0)
    assert limit(values, True) == pytest.approx(30)
    assert highest(values, True) == 2.0
