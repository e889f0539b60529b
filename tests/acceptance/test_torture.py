"""A short run of the torture program; and the comparison it relies on finds what is lost or changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from atbptt.runs import checkpoints, schema
from tests.acceptance.torture import continued, torture
from tests.helpers.comparing import differences, runs
from tests.helpers.training import ADAPTIVE, composed, run_interrupted, train


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "kills"), [("joblib", 5), ("basic", 3)])
def test_a_sweep_whose_processes_are_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, launcher: str, kills: int
) -> None:
    lines: list[str] = []
    done, wrong = torture(tmp_path, kills, count=10, seed=1, tell=lines.append, launcher=launcher)
    assert not wrong, "\n".join([*lines, *wrong])
    assert done.total() == kills


@pytest.mark.parametrize(
    ("options", "updates", "moved"),
    [(("truncation.K=8",), 9, False), (ADAPTIVE, 4, False), (ADAPTIVE, 25, True)],
    ids=["fixed", "no evaluation since", "adaptive"],
)
def test_a_run_is_known_that_continues_after_its_policy_has_moved(
    options: tuple[str, ...], updates: int, moved: bool, tmp_path: Path
) -> None:
    run_interrupted(composed(tmp_path, *options), updates)
    train(tmp_path, *options)
    assert [each for _, each in continued(tmp_path)] == [moved]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a run whose optimizer has a state."""
    folder = tmp_path_factory.mktemp("stored")
    train(folder, "optimizer=momentum", "lr=0.1")
    return folder


def table(name: str, changed: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda run: pq.write_table(changed(pq.ParquetFile(run / name).read()), run / name)


def with_value(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    return table.set_column(table.schema.names.index(column), field, pa.array(values, field.type))


def checkpoint(*place: str | int, value: object) -> Callable[[Path], None]:
    """Changes an entry of a run's checkpoint."""

    def change(run: Path) -> None:
        state = checkpoints.read_checkpoint(run / schema.CHECKPOINT)
        part: Any = state
        for key in place[:-1]:
            part = part[key]
        assert part[place[-1]] != value
        part[place[-1]] = value
        checkpoints.save(run, state)

    return change


def change_momentum(run: Path) -> None:
    """By the smallest step possible."""
    state = checkpoints.read_checkpoint(run / schema.CHECKPOINT)
    first = state["optimizer"]["state"][0]["momentum_buffer"].view(-1)
    first[0] = torch.nextafter(first[0], torch.tensor(9.0))
    checkpoints.save(run, state)


def change_status(run: Path) -> None:
    status = json.loads((run / schema.STATUS).read_text())
    (run / schema.STATUS).write_text(json.dumps({**status, "best_epoch": 0.0}))


Change = Callable[[Path], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "lost run": (shutil.rmtree, "{run}: lost"),
    "copied run": (lambda run: shutil.copytree(run, run.with_name("copy")), "copy: there is no such run undisturbed"),
    "lost row": (table(schema.METRICS, lambda t: t.slice(0, len(t) - 1)), "rows instead of"),
    "value": (table(schema.METRICS, lambda t: with_value(t, "value", 5, -0.0)), "value of row 5 is -0.0 instead of"),
    "column": (table(schema.POSITIONS, lambda t: t.drop_columns(["phi"])), "columns ['experiment_id', "),
    "no predictions": (lambda run: (run / schema.PREDICTIONS).unlink(), "{run}: FileNotFoundError: "),
    "optimizer": (change_momentum, "checkpoint.pt: optimizer.state.0.momentum_buffer differs"),
    "policy": (checkpoint("policy", "K", value=9), "checkpoint.pt: policy.K differs"),
    "cursor": (checkpoint("epochs_done", value=1), "checkpoint.pt: epochs_done differs"),
    "updates": (checkpoint("updates", value=11), "checkpoint.pt: updates differs"),
    "sums": (checkpoint("sums", "K", value=1), "checkpoint.pt: sums.K differs"),
    "next evaluation": (checkpoint("next_evaluation", value=120), "checkpoint.pt: next_evaluation differs"),
    "best": (checkpoint("best", "epoch", value=0.0), "checkpoint.pt: best.epoch differs"),
    "no best": (checkpoint("best", value={}), "checkpoint.pt: best.value differs"),
    "lost table": (checkpoint("tables", value={}), "checkpoint.pt: positions.parquet differs"),
    "status": (change_status, "status.json: best_epoch is 0.0 instead of 2.0"),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_the_comparison_finds(change: Change, expected: str, stored: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(stored, tmp_path / "changed")
    ((name, run),) = runs(changed).items()
    change(run)
    assert expected.format(run=name) in "\n".join(differences(changed, stored))


def test_the_comparison_ignores_times_only(stored: Path, tmp_path: Path) -> None:
    def timed(t: pa.Table) -> pa.Table:
        row = t["metric"].to_pylist().index("steps_per_second")
        return with_value(with_value(t, "train_seconds", 0, 9.0), "value", row, 9.0)

    changed = shutil.copytree(stored, tmp_path / "changed")
    for run in runs(changed).values():
        table(schema.METRICS, timed)(run)
        for place in (("train_seconds",), ("sums", "seconds"), ("costs", "peak_memory_mb")):
            checkpoint(*place, value=9.0)(run)
    assert list(differences(changed, stored)) == []
