"""A search whose command is killed and continued equals an undisturbed one, in its trials and its runs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from atbptt.runs import SearchRecord, Trial, read_search, schema
from tests.helpers.comparing import differences
from tests.helpers.launched import LAUNCHER, Sweep

SPACE = ("hydra/sweeper=optuna", "truncation=adaptive", "truncation.delta=interval(0.05,1)")
SPACE += ("lr=tag(log,interval(0.1,30))", "hydra.sweeper.sampler.n_startup_trials=2")
SIZE = ("hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2", "epochs=8", "hydra.launcher.n_jobs=2")


@pytest.fixture
def sweeps(tmp_path: Path, tiny: tuple[str, ...]) -> Iterator[tuple[Sweep, Sweep]]:
    """Of two launchers: which one runs the trials changes nothing."""
    command = (*tiny, *SPACE, *SIZE)
    made = Sweep(tmp_path / "undisturbed", *command, "hydra/launcher=joblib"), Sweep(tmp_path / "killed", *command)
    yield made
    for sweep in made:
        sweep.clear()


def record(sweep: Sweep) -> SearchRecord:
    (file,) = (sweep.output / schema.SWEEPS).glob(f"*/{schema.TRIALS}")
    return read_search(file.parent)


@pytest.mark.slow
def test_a_killed_and_continued_search_equals_an_undisturbed_one(sweeps: tuple[Sweep, Sweep]) -> None:
    undisturbed, killed = sweeps
    assert undisturbed.run() == 0
    for trials in (1, 3, 5):
        killed.launch()
        killed.until(lambda number=trials: len(killed.statuses()) >= number, f"trial {trials}")
        for pid in killed.processes()[LAUNCHER]:
            killed.kill(pid)
        killed.wait()
    assert killed.run() == 0
    assert record(killed) == replace(record(undisturbed), command=record(killed).command)
    assert all(isinstance(trial, Trial) and trial.value is not None for trial in record(killed).trials)
    assert list(differences(killed.output, undisturbed.output)) == []
