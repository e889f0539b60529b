import numpy as np
import pandas as pd
import pytest

from analysis.figures import intervals, symbols, values
from tests.helpers.made_runs import predictions, run, sweep

FRAME = sweep(run("a", {"valid_ppl": [2]}))


def test_strips_and_marks_below_what_is_wrong() -> None:
    table = pd.concat(
        [
            predictions("a", "symbol", [0, 1, 2, 3], [0, 1, 3, 2]),
            predictions("a", "symbol", [1, 1, 1, 1], [1, 1, 1, 1], stream=1),
        ]
    )
    (axes,) = symbols(table, FRAME, "").axes
    assert axes.get_title(loc="left") == "fixed K=5: 2 of 8 wrong"
    first, second = axes.collections
    assert first.get_array().tolist() == [[0, 1, 2, 3], [0, 1, 3, 2]]
    assert second.get_array().tolist() == [[1] * 4, [1] * 4]
    marks = [list(line.get_xdata()) for line in axes.get_lines()]
    assert marks == [[2, 3]]


def test_steps_and_streams_that_were_not_stored_are_blank() -> None:
    both = [predictions(name, "symbol", [1, 2, 3], [1, 1, 3], stream) for stream, name in enumerate("ab")]
    stored = pd.concat(both)[lambda rows: rows["position"] != 1]
    frame = sweep(FRAME, run("b", {"valid_ppl": [2]}, init=1))
    first, second = symbols(stored, frame, "").axes
    assert str(first.collections[0].get_array()) == "[[1.0 -- 3.0]\n [1.0 -- 3.0]]"
    assert len(first.collections) == len(second.collections) == 1
    assert symbols(pd.concat([stored, stored]), frame, "").axes[0].collections[0].get_array().shape == (2, 3)


def test_all_right_and_in_different_colours(recwarn: pytest.WarningsRecorder) -> None:
    figure = symbols(predictions("a", "symbol", range(20), range(20)), FRAME, "")
    figure.draw_without_rendering()
    assert not recwarn.list
    assert figure.legends == []
    (mesh,) = figure.axes[0].collections
    assert len({tuple(mesh.cmap(symbol)) for symbol in range(20)}) == 20


def test_intervals_along_the_sequence_and_against_each_other() -> None:
    table = pd.concat(
        [
            predictions("a", "interval", [0.1, 0.2, 4.0, 0.0], [0.2, 0.2, 1.0, 1.0]),
            predictions("a", "event", [1, 2, 3, 3], [1, 1, 1, 3]),
        ]
    )
    along, against = intervals(table, FRAME, "").axes
    target, predicted, missed = along.get_lines()
    assert list(target.get_ydata()) == [0.1, 0.2, 4.0, 0.0]
    assert list(predicted.get_ydata()) == [0.2, 0.2, 1.0, 1.0]
    assert list(missed.get_xdata()) == [1, 2]
    hit, miss, diagonal = against.get_lines()
    assert list(hit.get_xdata()) == [0.1]  # zero is on no logarithmic axis
    assert (list(miss.get_xdata()), list(miss.get_ydata())) == ([0.2, 4.0], [0.2, 1.0])
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0.1, 4.0]
    assert against.get_title(loc="left") == "event: 50% missed"
    assert (against.get_xscale(), against.get_yscale()) == ("log", "log")
    times = np.linspace(0.1, 2, 4000)  # so many are counted
    _, against = intervals(predictions("a", "interval", times, times), FRAME, "").axes
    assert len(against.collections) == 1
    assert against.get_title(loc="left") == ""  # no events


def test_values_of_no_more_outputs_than_a_page_has() -> None:
    table = pd.concat([predictions("a", f"value{number}", [1], [2]) for number in range(30)])
    assert len(values(table, FRAME, "").axes) == 20


def test_values_of_several_outputs() -> None:
    table = pd.concat([predictions("a", f"value{number}", [1, 2], [2, 1]) for number in (0, 1)])
    figure = values(table, FRAME, "")
    assert [axes.get_ylabel() for axes in figure.axes] == ["value0", "value1"]
