import math
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.following.runs import Evaluation, Run, Sent, labels_of, snapshots, tag
from analysis.loading import Results
from atbptt.monitor import Reader
from atbptt.runs import schema
from tests.analysis.conftest import WriteRun
from tests.helpers.made import write_plan


def taken(directory: Path) -> Run:
    (run,) = snapshots(Results(directory), labels_of(Reader([directory]).read()))
    return run


def test_a_run_has_what_it_stored(outputs: Path, write_run: WriteRun) -> None:
    metrics = {"valid_ppl": [1.5, math.inf], "K_1": [[2, 4], [2, math.nan]], "diverged": [0, 1]}
    given = {"notes": "why not", "tags": "first, night", "lr": math.inf}
    directory = write_run("0123456789ab", metrics, schema.FAILED, **given)
    bare = taken(directory)
    assert (bare.label, bare.title) == ("", "0123456789ab")
    write_plan(outputs, "sweep", {"lr=inf": directory})
    run = taken(directory)
    assert (run.id, run.experiment, run.label, run.state) == ("0123456789ab", "demo", "lr=inf", "diverged")
    assert (run.notes, run.tags, run.options["lr"], run.options["init"]) == ("why not", ("first", "night"), "inf", 0)
    assert {"name", "notes", "tags", "experiment_id"}.isdisjoint(run.options)
    first, second = run.evaluations
    assert (first.step, first.seconds, first.values["evaluation/valid_ppl"], first.values["truncation/K_1"]) == (
        *(100, 0.5),
        *(1.5, 3.0),
    )
    assert second.values["evaluation/valid_ppl"] == math.inf
    assert math.isnan(second.values["truncation/K_1"])
    assert second.values["time/epoch"] == 2


@pytest.mark.parametrize(
    ("metric", "section"),
    [
        ("valid_event_loss", "evaluation"),
        ("train_loss", "evaluation"),
        ("K", "truncation"),
        ("mean_K", "truncation"),
        ("K_0.9_measured_low", "truncation"),
        ("log_relative_bias", "gradient"),
        ("gradient_cosine", "gradient"),
        ("grad_norm", "training"),
        ("lr", "training"),
        ("steps_per_compute_second", "time"),
        ("processor_seconds", "time"),
        ("peak_gpu_memory_mb", "memory"),
        ("mine", "other"),
    ],
)
def test_metrics_stand_in_sections(metric: str, section: str) -> None:
    assert tag(metric) == f"{section}/{metric}"


def test_what_a_tracker_lacks(write_run: WriteRun) -> None:
    def values(step: int, loss: float, seconds: float) -> Evaluation:
        timed = {"time/train_seconds": seconds, "memory/peak_memory_mb": 300 + seconds, "training/diverged": seconds}
        return Evaluation(step, seconds, {"evaluation/valid_loss": loss, **timed})

    run = replace(taken(write_run("a")), evaluations=(values(0, 3.0, 1.0), values(10, 2.0, 2.0), values(20, 1.0, 3.0)))
    zero, ten, twenty = run.evaluations
    assert Sent().missing(run) == (1, run.evaluations)
    assert Sent(2, 10, ten.digest).missing(run) == (2, (twenty,))
    dropped = replace(run, evaluations=(zero,))
    assert Sent(1, 10, ten.digest).missing(dropped) == (1, ())
    repeated = replace(run, evaluations=(zero, values(10, 2.0, 2.5), twenty))
    assert Sent(1, 10, ten.digest).missing(repeated) == (1, (twenty,))
    other = replace(run, evaluations=(zero, values(10, math.nan, 2.0)))
    assert Sent(1, 10, ten.digest).missing(other) == (2, other.evaluations)
