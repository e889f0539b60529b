import numpy as np
import pandas as pd
import pytest

from analysis.statistics.convergence import still_improving
from tests.helpers.made_runs import run, sweep

EPOCHS = np.arange(21)


def runs(*each: np.ndarray, metric: str = "valid_loss") -> pd.DataFrame:
    return sweep(*(run(f"{init}", {metric: values}, init=init) for init, values in enumerate(each)))


@pytest.mark.parametrize(
    ("spread", "expected"),
    [(0.1, []), (0.01, ["fixed K=5"])],  # a fall by 0.05 an epoch, of which the last tenth has two
    ids=["within the spread over init", "beyond it"],
)
def test_the_last_tenth_is_judged_by_the_spread_over_init(spread: float, expected: list[str]) -> None:
    falling = 5 - 0.05 * EPOCHS
    found = still_improving(runs(*(falling + spread * init for init in range(4))))
    assert found["setting"].tolist() == expected
    assert found["gain"].tolist() == pytest.approx([0.1] * len(expected))


def test_nothing_is_left_at_a_perplexity_of_its_floor_however_small_the_spread() -> None:
    perplexity = 1.00008 + 5 * np.exp(-EPOCHS.astype(float))  # still falls at the end, by nothing
    assert still_improving(runs(*(perplexity + 1e-12 * init for init in range(3)), metric="valid_ppl")).empty


def test_one_run_is_judged_by_what_it_gained_in_all_and_an_unfinished_one_is_not() -> None:
    falling = runs(5 - 0.05 * EPOCHS)
    assert still_improving(falling)["setting"].tolist() == ["fixed K=5"]
    assert still_improving(falling.assign(epochs=30.0)).empty
    assert len(still_improving(runs(np.where(EPOCHS < 2, np.inf, 5 - 0.05 * EPOCHS)))) == 1
    assert still_improving(runs(np.where(EPOCHS < 3, 5.0, 4.0))).empty
