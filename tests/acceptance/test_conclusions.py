"""What a reader of tables would conclude from runs that the system made, and what it must not be."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import analysis
from analysis.loading import Results
from analysis.statistics import comparable
from analysis.tables import compared_tables, result_tables
from analysis.tables.cells import Table
from atbptt.config.settings import Settings
from atbptt.training.experiment import run
from tests.conftest import TINY_PROBE
from tests.helpers.made_runs import texts
from tests.helpers.training import run_interrupted

Make = Callable[..., Settings]


def column(table: Table, heading: str) -> list[str]:
    headings, *rows = texts(table)
    return [row[headings.index(heading)] for row in rows]


@pytest.fixture
def make(settings: Make, outputs: Path) -> Make:
    """Settings of a tiny run below `outputs`."""
    return lambda *overrides, **size: settings(f"output_dir={outputs}", *overrides, **size)


def test_runs_on_edited_data_are_no_replicates(make: Make, outputs: Path, tmp_path: Path) -> None:
    def train(*inits: int) -> None:
        for init in inits:
            own = ("dataset=text", f"dataset.path={tmp_path}", "dataset.batch_size=4", f"init={init}")
            run(make(*own, size=("model.hidden=6", "epochs=1", *TINY_PROBE)))

    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("one two three four five six\n" * 60)
    train(0, 1)
    (tmp_path / "train.txt").write_text("one two three four five six\n" * 70)
    train(0, 1)
    (table,) = result_tables(Results(outputs))
    assert column(table, "runs") == ["2", "2"]
    assert len({*column(table, "dataset.data_hash")}) == 2


def test_each_experiment_has_all_its_runs(make: Make, outputs: Path) -> None:
    for name in ("one", "two"):
        run(make(f"name={name}"))
    run(make("name=two", "init=1"))
    tables = result_tables(Results(outputs))
    assert [(table.keys["experiment"], *column(table, "runs")) for table in tables] == [("one", "1"), ("two", "2")]


def test_a_failed_run_neither_wins_nor_ends_the_comparison(make: Make, outputs: Path) -> None:
    for init in (0, 1):
        run(make(f"init={init}", "epochs=3"))
        run(make(f"init={init}", "epochs=3", "truncation.K=5"))
    run_interrupted(make("init=2", "epochs=3", "truncation.K=5"), updates=13)  # of 12 an epoch
    run_interrupted(make("init=0", "epochs=3", "truncation.K=20"), updates=4)
    results = Results(outputs)
    (table,) = result_tables(results)
    assert {*zip(column(table, "policy"), column(table, "runs"), column(table, "remarks"), strict=True)} == {
        ("fixed K=5", "2 of 3", "failed at 1 of 3"),
        ("fixed K=10", "2", ""),
        ("fixed K=20", "0 of 1", "failed at 1 of 3"),
    }
    assert column(table, "policy")[2] == "fixed K=20"  # whatever its value
    work = next(table for table in compared_tables(results, comparable(results.frame)) if "equal work" in table.title)
    assert texts(work)[0][1].startswith("epoch 3")
    assert {*column(work, "policy")} == {"fixed K=5", "fixed K=10"}


def test_a_run_whose_best_is_before_training_has_diverged(make: Make, outputs: Path) -> None:
    run(make())
    run(make("lr=3e3", "clip_norm=null", "init=1"))
    (table,) = result_tables(Results(outputs))[:1]
    endings = analysis.endings(analysis.load(outputs)).set_index("experiment_id")["ending"]
    assert endings[make().experiment_id] == "complete"
    assert endings.drop(make().experiment_id).tolist() == ["diverged"]
    assert column(table, "lr") == ["1"]


def test_budgets_that_differ_have_a_column(make: Make, outputs: Path) -> None:
    run(make("epochs=1"))
    run(make("epochs=2", "init=1"))
    (table,) = result_tables(Results(outputs))
    assert sorted(column(table, "epochs")) == ["1", "2"]


def test_the_processor_time_of_training_is_logged_beside_that_on_the_wall(make: Make, outputs: Path) -> None:
    run(make())
    ends = analysis.load(outputs, "valid_ppl")[["compute_seconds", "train_seconds"]].max()
    assert 0 < ends["compute_seconds"] < 3 * ends["train_seconds"]


@pytest.mark.slow
def test_the_first_policy_of_the_command_is_the_reference(outputs: Path, tiny: tuple[str, ...], root: Path) -> None:
    command = [sys.executable, str(root / "launch.py"), "-m", f"output_dir={outputs}", *tiny, "epochs=1"]
    swept = ["truncation=warmup,fixed,adaptive", "init=0,1,2", "optimizer=adam", "lr=0.01,0.03"]
    subprocess.run([*command, *swept], check=True, capture_output=True, timeout=300)

    def printed(*options: str) -> str:
        called = [sys.executable, "-m", "analysis", "table", str(outputs), *options]
        return subprocess.run(called, check=True, capture_output=True, text=True, timeout=300, cwd=root).stdout

    out = printed()
    assert "difference from warmup K_final=20 at equal init" in out
    assert "best of 2, lr at the edge" in out
    assert "lr in force" not in out  # Adam's is the one typed
    assert "published" not in out
    assert "difference from fixed K=10 at equal init" in printed("--against", "fixed K=10")
