from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from analysis.loading.rows import Rows, check_wanted, gather, narrowed, wanted_texts
from atbptt.errors import AnalysisError

SCHEMA = pa.schema([("experiment_id", pa.string()), ("metric", pa.string()), ("value", pa.float64())])
PIECES = st.lists(st.lists(st.sampled_from(["K", "lr", "valid_ppl"]), max_size=4), min_size=1, max_size=6)


def rows_of(runs: list[int], pieces: list[list[str]]) -> Rows:
    """Runs with these metrics; the value of a row is its run's number and its own: 2.01."""
    names = sorted({name for piece in pieces for name in piece}, reverse=True)
    there = [(run, piece) for run, piece in zip(runs, pieces, strict=True) if piece]
    codes = np.array([names.index(name) for _, piece in there for name in piece], np.int32)
    values = np.array([run + index / 100 for run, piece in there for index in range(len(piece))])
    counts = np.array([len(piece) for _, piece in there], np.int64)
    return Rows(
        np.array([run for run, _ in there], np.int32), counts, {"metric": codes, "value": values}, {"metric": names}
    )


def listed(rows: Rows) -> list[tuple[int, str, float]]:
    runs = np.repeat(rows.runs, rows.counts).tolist()
    names = [rows.texts["metric"][code] for code in rows.columns["metric"]]
    return list(zip(runs, names, rows.columns["value"].tolist(), strict=True))


@given(PIECES, st.data())
def test_parts_are_gathered_in_the_order_of_the_runs(pieces: list[list[str]], data: st.DataObject) -> None:
    runs = data.draw(st.permutations(range(len(pieces))))
    cuts = sorted({0, *data.draw(st.sets(st.integers(0, len(pieces)))), len(pieces)})
    parts = [rows_of(runs[a:b], pieces[a:b]) for a, b in pairwise(cuts)]
    whole = gather(iter(parts), SCHEMA)
    assert listed(whole) == listed(rows_of(*map(list, zip(*sorted(zip(runs, pieces, strict=True)), strict=True))))
    assert list(whole.texts["metric"]) == sorted({name for piece in pieces for name in piece})
    assert len(whole) == len(whole.columns["value"]) == sum(map(len, pieces))


@given(PIECES, st.sets(st.integers(0, 5)), st.sampled_from([None, "K", ["lr", "valid_*"], []]))
def test_rows_are_narrowed_to_runs_and_texts(
    pieces: list[list[str]], runs: set[int], asked: str | list[str] | None
) -> None:
    chosen = np.isin(np.arange(6), list(runs))
    rows = rows_of(list(range(len(pieces))), pieces)
    names = wanted_texts(["K", "lr", "valid_ppl"], asked)
    kept = narrowed(rows, {"metric": asked}, chosen)
    assert listed(kept) == [row for row in listed(rows) if row[0] in runs and row[1] in names]
    assert asked is None or kept.seen == {"metric": {row[1] for row in listed(rows) if row[0] in runs}}
    assert (kept.counts > 0).all()


def test_no_rows_at_all() -> None:
    whole = gather(iter([]), SCHEMA)
    assert len(whole) == 0
    assert whole.texts == {"metric": []}


def test_names_and_patterns() -> None:
    names = ["K", "K_0.9", "valid_ppl"]
    assert wanted_texts(names, None) == {*names}
    assert wanted_texts(names, "K") == {"K"}
    assert wanted_texts(names, ["K_*", "valid_pp?"]) == {"K_0.9", "valid_ppl"}
    check_wanted("metrics", {*names}, ["nothing*", "K"])
    with pytest.raises(AnalysisError, match=r"metrics \(=k\) must be one of K, K_0.9, valid_ppl"):
        check_wanted("metrics", {*names}, "k")
