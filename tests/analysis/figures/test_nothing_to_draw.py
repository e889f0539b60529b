from typing import Any

import numpy as np
import pytest

from analysis import figures
from analysis.figures import NoDataError
from tests.helpers.made_runs import gradients, positions, predictions, run, sweep

FRAME = sweep(run("a", {"valid_ppl": [2, 2, 2], "K": [2, 3, 4]}))
OTHER = predictions("a", "other", [1], [1])
TWO_K = sweep(*(run(f"{K}", {"valid_ppl": [2, K]}, truncation__K=K) for K in (2, 3)))


@pytest.mark.parametrize(
    ("name", "tables", "message"),
    [
        ("relative_bias", [FRAME], "no finite log_relative_bias"),
        ("relative_bias", [sweep(FRAME, run("a", {"log_relative_bias": [np.inf]}))], "no finite log_relative_bias"),
        ("lag_profiles", [gradients("none").iloc[:0], FRAME], "no run has stored"),
        ("noise_profiles", [gradients("a").assign(signal_to_noise=0.0), FRAME], "no run has stored"),
        ("lag_maps", [gradients("a", evaluations=1), FRAME], "no run has stored"),
        ("lag_maps", [gradients("a").assign(phi=0.0), FRAME], "no gradient norm is finite and positive"),
        ("position_maps", [positions("a").query("position == 9"), FRAME], "probes have a single loss position"),
        ("lag_ratios", [positions("a").query("lag == 1"), FRAME], "no two successive lags have a gradient"),
        ("symbols", [predictions("a", "symbol", [0, 1], [0, 20]), FRAME], r"symbols \(=20\) must lie in 0..19"),
        *((name, [OTHER, FRAME], "no run has stored") for name in ("symbols", "intervals", "values")),
        ("tuning", [TWO_K], "fewer than two learning rates or two values of K"),
        ("parallel", [TWO_K], "fewer than two options vary"),
    ],
)
def test_without_data_the_error_says_what_is_missing(name: str, tables: list[Any], message: str) -> None:
    with pytest.raises(NoDataError, match=message):
        getattr(figures, name)(*tables, "")
