import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from analysis.loading.options import KEY, MAGIC, by_row, by_run, matching, read_options
from analysis.loading.reading import UNREADABLE

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False, width=16), st.sampled_from(["a", "b", "1"])
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES), min_size=1, max_size=8)


def with_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As rows are read: with an id, without nulls."""
    plain = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return [{"experiment_id": f"{index:03d}", **row} for index, row in enumerate(plain)]


@given(ROWS, st.data())
def test_rows_have_the_options_of_their_run(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    rows = with_ids([{**row, "seed": 0} for row in rows])
    runs = np.array(data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1)))
    spread = pd.DataFrame(by_row(rows, runs))
    expected = by_run(rows).drop(columns="experiment_id").iloc[runs].reset_index(drop=True)
    texts = {name: "str" for name in spread if spread[name].dtype == "category"}
    pd.testing.assert_frame_equal(spread.astype(texts), expected)


@given(ROWS)
def test_a_condition_chooses_the_runs_that_have_the_value(rows: list[dict[str, Any]]) -> None:
    rows = with_ids(rows)
    for asked in [row["x"] for row in rows if "x" in row]:
        chosen = matching(rows, {"x": asked})
        assert {index for index, row in enumerate(rows) if "x" in row and row["x"] == asked} <= {*chosen}
        assert all("x" in rows[index] for index in chosen)


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
    column = by_run(with_ids([{"x": value} for value in values]))["x"]
    assert column.dtype == kind
    assert column.isna().tolist() == [value is None or value != value for value in values]


@pytest.mark.parametrize(("asked", "places"), [("3", [0]), (3, [0]), ([3, "never"], [0, 1]), ([[1]], []), (None, [2])])
def test_an_option_shown_as_a_text_is_found_by_it_and_by_its_value(asked: object, places: list[int]) -> None:
    assert matching(with_ids([{"patience": 3}, {"patience": "never"}, {}]), {"patience": asked}) == places


def test_lists_nested_as_deep_as_the_stack_are_read_or_refused(tmp_path: Path) -> None:
    """Of some depth, they can be read but not written."""
    path = tmp_path / "options.parquet"
    for depth in range(800, 1000):
        row = b'{"experiment_id": "a", "sizes": ' + b"[" * depth + b"]" * depth + b"}"
        path.write_bytes(KEY + row + MAGIC)
        with contextlib.suppress(*UNREADABLE):
            assert len(read_options(str(path))[0]["sizes"]) == 2 * depth
