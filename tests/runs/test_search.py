import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atbptt.config import Settings
from atbptt.runs import SearchRecord, Trial, best_value, read_search, schema, write_search
from atbptt.system import StorageError


def test_a_record_is_read_as_it_was_written_and_knows_its_best(tmp_path: Path) -> None:
    values = (None, 0.1 + 0.2, -1.5, -1.5)
    trials = [Trial(n, {"lr": 1 / 3, "model": "gru"}, value=value) for n, value in enumerate(values)]
    record = SearchRecord("0", "valid_ppl", ["launch.py"], 9, {"lr": {"low": 0.1}}, trials)
    write_search(tmp_path / "new", record)
    assert read_search(tmp_path / "new") == record
    assert record.best is trials[2]
    assert SearchRecord("0", "valid_ppl", [], 9, {}, trials[:1]).best is None
    with pytest.raises(StorageError, match=r"trials.json/x cannot be made: Not a directory$"):
        write_search(tmp_path / "new" / schema.TRIALS / "x", record)


@pytest.mark.parametrize(
    ("epochs", "seconds", "best"), [(9, None, -3.0), (2, None, -2.0), (1, None, 3.0), (9, 20, -2.0)]
)
def test_the_best_value_is_the_lowest_finite_one_within_the_budget(
    settings: Callable[..., Settings], tmp_path: Path, epochs: float, seconds: float | None, best: float
) -> None:
    rows = {"valid_ppl": (math.nan, 3.0, -2.0, -math.inf, -3.0), "valid_loss": (-5.0,), "valid_nll": (math.inf,)}
    columns = [
        {"metric": metric, "value": value, "step": 60 * epoch, "epoch": float(epoch), "train_seconds": 10.0 * epoch}
        for metric, values in rows.items()
        for epoch, value in enumerate(values)
    ]
    pq.write_table(pa.Table.from_pylist(columns), tmp_path / schema.METRICS)
    asked = settings().model_copy(update={"epochs": epochs, "seconds": seconds})
    found = [best_value(tmp_path, metric, asked) for metric in (*rows, "valid_none")]
    assert found == [best, -5.0, None, None]
