"""Tiny runs: trained to their end or interrupted on the way, and what they stored."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from atbptt.config import composer, job_config
from atbptt.config.settings import Settings, validated
from atbptt.runs import read_checkpoint, schema
from atbptt.runs.directory import RunDirectory
from atbptt.training.experiment import run
from atbptt.training.trainer import Trainer
from tests.conftest import ROOT, TINY
from tests.helpers.comparing import TIMED_METRICS, TIMES, differences_of_a_run

# Of its evaluations after 0, 1 and 2 epochs, the second is the best.
ADAPTIVE = ("truncation=adaptive", "truncation.update_every=0.4", "model.dropout=0.3", "optimizer=momentum", "lr=5")
DRAWING = ("variable", "truncation.base=6"), ("randomized", "truncation.length=6")  # policies that draw K


def metrics(directory: RunDirectory) -> pd.DataFrame:
    """All that a run measured, times aside."""
    frame = pq.read_table(directory.path / schema.METRICS).to_pandas().drop(columns=list(TIMES))
    return frame[~frame["metric"].isin(TIMED_METRICS)].reset_index(drop=True)


def parameters(directory: RunDirectory) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(directory.path / schema.CHECKPOINT)["model"]
    return state


def check_same(a: RunDirectory, b: RunDirectory) -> None:
    """Identical tables, checkpoints and results in the status, bit for bit except for times."""
    assert not list(differences_of_a_run(a.path, b.path))


def series(directory: RunDirectory, metric: str) -> list[float]:
    frame = metrics(directory)
    return frame.loc[frame["metric"] == metric, "value"].tolist()


class InterruptedTrainingError(Exception):
    pass


def run_interrupted(settings: Settings, updates: int, checkpoint: bool = True) -> None:
    """Run until so many updates are done, with or without a checkpoint at the end."""
    advance = Trainer._advance

    def interrupted(self: Trainer) -> None:
        if self.updates == updates:
            if checkpoint:
                self._checkpoint()
            raise InterruptedTrainingError
        advance(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_advance", interrupted)
        with pytest.raises(InterruptedTrainingError):
            run(settings)


def score(patch: pytest.MonkeyPatch, *values: float) -> None:
    """Let evaluations find these validation perplexities, by the epoch, rounded down."""

    def evaluate(*given: Any) -> dict[str, float]:
        trainer: Trainer = given[-1].func.__self__  # of `_pause`
        return {"ppl": values[int(trainer.windows.epoch)], "loss": 1.0}

    patch.setattr("atbptt.training.trainer.evaluate", evaluate)


def composed(folder: Path, *overrides: str) -> Settings:
    """Settings of a tiny run."""
    with composer(ROOT / "conf") as hydra:
        return validated(job_config(hydra, "config", [*TINY, f"output_dir={folder}", *overrides]))


def train(folder: Path, *overrides: str) -> Path:
    """A tiny run's directory."""
    return run(composed(folder, *overrides)).path
