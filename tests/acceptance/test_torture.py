"""The short form of the torture program; and that it would find what is lost or changed."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from atbptt.runs import schema
from tests.acceptance.torture import START, planned, torture
from tests.helpers.comparing import differences, runs
from tests.helpers.launched import LAUNCHER, RUN, SERVER


def test_a_sweep_whose_processes_are_killed_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    lines: list[str] = []
    done, wrong = torture(tmp_path, kills=5, count=20, seed=1, tell=lines.append)
    assert not wrong, "\n".join([*lines, *wrong])
    assert done.total() == 5


@pytest.mark.parametrize("kills", [5, 50])
def test_kills_are_of_every_kind_spread_and_the_same_with_the_same_seed(kills: int) -> None:
    plan = planned(kills, random.Random(3))
    assert plan == planned(kills, random.Random(3))
    assert plan != planned(kills, random.Random(4))
    assert len(plan) == kills
    assert {kill.kind for kill in plan} == {RUN, SERVER, LAUNCHER, START}
    moments = [kill.progress for kill in plan]
    assert moments == sorted(moments)
    assert moments[0] < 0.4 < moments[-1] < 1
    # Nothing starts but after the launching process was killed.
    assert all(before.kind == LAUNCHER for before, kill in itertools.pairwise(plan) if kill.kind == START)


@pytest.fixture(scope="module")
def stored(root: Path, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with two runs, whose optimizer has a state."""
    folder = tmp_path_factory.mktemp("stored")
    options = ["optimizer=momentum", "lr=0.1,0.2", "epochs=3", f"output_dir={folder}"]
    command = [sys.executable, str(root / "launch.py"), "-m", *tiny, *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def change_table(name: str, changed: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        table = pq.ParquetFile(run / name).read()
        pq.write_table(changed(table), run / name)

    return change


def with_value(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    return table.set_column(table.schema.names.index(column), field, pa.array(values, field.type))


def change_checkpoint(part: str) -> Callable[[Path], None]:
    """The least change of one number of the model or the optimizer."""

    def change(run: Path) -> None:
        state = torch.load(run / schema.CHECKPOINT, weights_only=False)
        tensors = state["model"] if part == "model" else state["optimizer"]["state"][0]
        tensor = next(iter(tensors.values()))
        tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(9.0))
        torch.save(state, run / schema.CHECKPOINT)

    return change


def timed(table: pa.Table) -> pa.Table:
    """Another time in every row, and another speed."""
    row = table["metric"].to_pylist().index("steps_per_second")
    times = pa.array([9.0] * len(table))
    table = table.set_column(table.schema.names.index("train_seconds"), table.schema.field("train_seconds"), times)
    return with_value(table, "value", row, 9.0)


def null_of_a_bias(table: pa.Table) -> pa.Table:
    row = next(i for i, value in enumerate(table["relative_bias"].to_pylist()) if value is not None)
    return with_value(table, "relative_bias", row, None)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "lost run": (shutil.rmtree, "{run}: lost"),
    "copied run": (lambda run: shutil.copytree(run, run.with_name("copy")), ": in 2 directories"),
    "unknown run": (
        lambda run: run.with_name("another").mkdir(),
        "another: there is no such run undisturbed",
    ),
    "lost row": (change_table(schema.METRICS, lambda t: t.slice(0, len(t) - 1)), "rows instead of"),
    "row twice": (
        change_table(schema.GRADIENTS, lambda t: pa.concat_tables([t, t.slice(3, 1)])),
        "gradients.parquet: 2 rows of (0, 0, 'all', 4)",
    ),
    "value": (
        change_table(schema.METRICS, lambda t: with_value(t, "value", 5, -0.0)),
        "metrics.parquet: value of row 5 (step 0) is -0.0 instead of",
    ),
    "epoch": (change_table(schema.METRICS, lambda t: with_value(t, "epoch", 2, 0.5)), "epoch of row 2"),
    "null": (change_table(schema.GRADIENTS, null_of_a_bias), "relative_bias of row 0 (step 0) is None instead of"),
    "position": (change_table(schema.POSITIONS, lambda t: t.slice(1)), "positions.parquet: "),
    "earlier predictions": (
        change_table(schema.PREDICTIONS, lambda t: with_value(t, "step", 0, -1)),
        "predictions.parquet: step of row 0 (step -1) is -1 instead of",
    ),
    "no predictions": (lambda run: (run / schema.PREDICTIONS).unlink(), "{run}: FileNotFoundError: "),
    "column": (change_table(schema.METRICS, lambda t: t.drop_columns(["updates"])), "columns ['experiment_id', "),
    "options": (change_table(schema.OPTIONS, lambda t: with_value(t, "lr", 0, 0.3)), "options.parquet: "),
    "table cut off": (lambda run: (run / schema.METRICS).write_bytes(b"PAR1"), "{run}: ArrowInvalid: "),
    "no checkpoint": (lambda run: (run / schema.CHECKPOINT).unlink(), "{run}: FileNotFoundError: "),
    "parameter": (change_checkpoint("model"), "checkpoint.pt: model."),
    "optimizer": (change_checkpoint("optimizer"), "checkpoint.pt: optimizer.state.0.momentum_buffer differs"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_comparison_finds(name: str, stored: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(stored, tmp_path / "changed")
    name_of_run, run = next(iter(runs(changed).items()))
    change, expected = CHANGES[name]
    change(run)
    found = "\n".join(differences(changed, stored))
    assert expected.format(run=name_of_run) in found


def test_the_comparison_leaves_out_times_alone(stored: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(stored, tmp_path / "changed")
    assert list(differences(changed, stored)) == []
    for run in runs(changed).values():
        change_table(schema.METRICS, timed)(run)
    assert list(differences(changed, stored)) == []
