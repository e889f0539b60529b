from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from analysis.loading.options import Options

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False, width=16), st.sampled_from(["a", "b", "1"])
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES), min_size=1, max_size=8)


def with_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"experiment_id": f"{index:03d}", **row} for index, row in enumerate(rows)]


@given(ROWS, st.data())
def test_parts_that_are_joined_and_chosen_from_are_as_if_encoded_at_once(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    rows = with_ids(rows)
    cut = data.draw(st.integers(0, len(rows)))
    chosen = np.array(data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1)))
    joined = Options.concat([Options.of(rows[:cut]), Options.of(rows[cut:])])
    expected = Options.of([rows[index] for index in chosen]).by_run()
    pd.testing.assert_frame_equal(joined.select(chosen).by_run(), expected, check_like=True)


@given(ROWS, st.data())
def test_rows_have_the_options_of_their_run(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    options = Options.of(with_ids([{**row, "seed": 0} for row in rows]))
    runs = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(rows))), min_size=1))))
    counts = np.array([data.draw(st.integers(1, 3)) for _ in runs])
    by_row = pd.DataFrame(options.by_row(runs, counts))
    by_run = options.by_run().drop(columns="experiment_id").iloc[np.repeat(runs, counts)].reset_index(drop=True)
    texts = {name: "str" for name in by_row if by_row[name].dtype == "category"}
    pd.testing.assert_frame_equal(by_row.astype(texts), by_run)


@given(ROWS)
def test_a_condition_chooses_the_runs_that_have_the_value(rows: list[dict[str, Any]]) -> None:
    options = Options.of(with_ids(rows))
    for asked in [row["x"] for row in rows if row.get("x") is not None]:
        chosen = options.matching({"x": asked}) if "x" in options.columns else []
        assert all(chosen[index] for index, row in enumerate(rows) if row.get("x") == asked)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], "Int64"),
        ([True, None], "boolean"),
        ([1, 2.5, None], "float64"),
        ([1.0, math.inf, math.nan], "float64"),
        (["1", 1, True], "str"),
        ([True, 1], "str"),
        ([1 << 70], "float64"),
    ],
)
def test_types(values: list[Any], kind: str) -> None:
    column = Options.of(with_ids([{"x": value} for value in values])).by_run()["x"]
    assert column.dtype == kind
    assert column.isna().tolist() == [value is None or value != value for value in values]


def test_an_option_shown_as_a_text_is_found_by_it_and_by_its_value() -> None:
    options = Options.of(with_ids([{"patience": 3}, {"patience": "never"}]))
    assert options.matching({"patience": "3"}).tolist() == [True, False]
    assert options.matching({"patience": 3}).tolist() == [True, False]
