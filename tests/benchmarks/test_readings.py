import numpy as np
import pytest

from atbptt.probes import SCHEMES
from atbptt.training import build
from benchmarks import readings
from benchmarks.composing import settings_of

SMALL = ("model.hidden=20", "dataset.batch_size=32")


@pytest.mark.slow
def test_measured_bias_and_noise_are_those_of_the_schemes_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the exact gradients of the whole stream, of an LSTM that has learned a little."""
    monkeypatch.setattr(readings, "EPOCHS", (2,))
    found = list(readings.look("lstm", "copy_variable", SMALL))
    assert {each.scheme for each in found} == {*SCHEMES}
    for each in found:
        assert abs(each.measured - each.exact) < 0.08, each
        assert 0.4 < each.noise / each.exact_noise < 2.5 or np.isnan(each.exact_noise), each
        if each.scheme == "tf":  # what a loss has that sees K steps is no estimate of it
            assert abs(each.of_steps - each.exact) > abs(each.measured - each.exact)


def test_full_backpropagation_has_no_bias() -> None:
    parts = build(settings_of("dataset=copy_fixed", *SMALL))
    bias, noise = readings.of_stream(parts, "tf", 1000, ["rnn.weight_hh_l0"])
    assert bias < 1e-6
    assert np.isnan(noise)  # one window


def test_tables_have_a_row_for_each_scheme_and_cell() -> None:
    row = readings.Reading("gru", "linear", 2, "original", "bound 0.9", 9, 0.8, 0.1, 0.1, 0.2, 1.0, 2.0)
    for table, cells in (
        (readings.by_scheme([row]), ["original", "bound 0.9", "1", "9 (9 to 9)", "0.2 (0.2 to 0.2)"]),
        (readings.by_cell([row]), ["gru", "linear", "4 (4 to 4)", "1"]),
    ):
        assert [next(column.cells) for column in table.columns][: len(cells)] == cells
