from collections.abc import Mapping
from typing import Any

import pytest

from analysis.statistics import comparable, summarize
from analysis.tables.marks import speed_remark, versions, with_remarks
from atbptt.runs.schema import FAILED, INTERRUPTED, RUNNING
from tests.helpers.made_runs import results, run

BUDGET = {"epochs": 3.0}
WHOLE = [9.0, 5, 4, 3]


def test_runs_that_make_no_mean_are_named_in_their_row() -> None:
    runs = [
        run("a", {"valid_loss": WHOLE}, **BUDGET),
        run("b", {"valid_loss": WHOLE[:3]}, init=1, **BUDGET),
        run("c", {"valid_loss": WHOLE[:3]}, init=2, **BUDGET),
        run("d", {"valid_loss": WHOLE[:2]}, init=3, **BUDGET),
        run("e", {"valid_loss": [9.0, 5, 4, 10]}, init=4, **BUDGET),
        run("f", {"valid_loss": WHOLE[:2], "diverged": [0.0, 1.0]}, init=5, **BUDGET),
        run("g", {"valid_loss": WHOLE[:3]}, truncation__K=7, **BUDGET),
        run("h", {"valid_loss": WHOLE}, truncation__K=9, **BUDGET),
    ]
    states = {"b": FAILED, "c": FAILED, "d": INTERRUPTED, "f": FAILED, "g": RUNNING}
    made = results(*runs, states=states)
    (group,) = comparable(made.frame)
    rows = with_remarks(summarize(group.runs, group.metric), group, made)
    assert rows[["policy", "runs", "planned", "remarks"]].to_numpy().tolist() == [
        ["fixed K=5", 1, 6, "2 failed at 2 of 3, interrupted at 1 of 3, diverged, diverged at 1 of 3"],
        ["fixed K=9", 1, 1, ""],
        ["fixed K=7", 0, 1, "running at 2 of 3"],
    ]


def test_a_row_counts_the_runs_of_its_own_setting() -> None:
    """Also where no run of the other setting was evaluated, or only a seed of the policy differs."""
    runs = [run(f"{lr}-{init}", {"valid_loss": WHOLE}, init=init, lr=lr) for lr in (1.0, 10.0) for init in (0, 1)]
    drawn = {"truncation": "randomized", "truncation__K": None}
    runs += [run(f"r{seed}", {"valid_loss": WHOLE}, truncation__seed=seed, **drawn) for seed in (0, 1)]
    made = results(*runs)
    (group,) = comparable(made.frame[~made.frame["experiment_id"].str.startswith("10.0")])
    rows = with_remarks(summarize(group.runs, group.metric), group, made)
    assert dict(zip(rows["policy"], rows["planned"], strict=True)) == {
        "fixed K=5": 2,
        "randomized seed=0": 1,
        "randomized seed=1": 1,
    }


@pytest.mark.parametrize(
    ("speeds", "other", "expected"),
    [
        ((1400, 1300, 650), {}, "by a factor of 2.2 (K=5: 650 to 1,400 steps a second), "),
        ((1400, 1300, 1200), {}, None),
        ((1400, 1300, 650), {"model": "gru"}, None),  # another model is another speed
        ((1400, 1300, 650), {"truncation": "adaptive"}, None),  # and so is one with probes
    ],
)
def test_speeds_that_differ_at_equal_K_and_model(
    speeds: tuple[float, ...], other: dict[str, Any], expected: str | None
) -> None:
    metrics: list[Mapping[str, Any]] = [
        {"valid_loss": [9, 5], "mean_K": [4.8, 5.2], "steps_per_second": [speed, speed]} for speed in speeds
    ]
    options = ({}, {}, other)
    made = results(*(run(f"{n}", own, **{"init": n, "model": "lstm", **options[n]}) for n, own in enumerate(metrics)))
    (group,) = comparable(made.frame)
    lines = speed_remark(group)
    assert len(lines) == (expected is not None)
    assert all(expected in line for line in lines if expected)


def test_runs_of_different_policies_that_waited_for_the_processor_unequally() -> None:
    """At 700 steps a second on the wall and 1400 of the processor, the processor did other work half of the time."""
    speeds = {"valid_loss": [9, 5], "mean_K": [5, 5], "steps_per_compute_second": [1400, 1400]}
    busy, quiet = ({**speeds, "steps_per_second": [speed, speed]} for speed in (700, 1350))
    made = results(run("a", quiet), run("b", busy, truncation="adaptive"))
    (group,) = comparable(made.frame)
    (line,) = speed_remark(group)
    assert "waited for the processor unequally (K=5: 1 to 2 seconds for one of the processor)" in line


def test_versions_that_differ_are_named_with_how_many_runs_have_them() -> None:
    def software(commit: str, python: str, runs: int, dirty: bool = False) -> dict[str, Any]:
        code = (commit, dirty, "code-1.diff" if dirty else "")
        return {"code": (code,), "python": python, "packages": (), "runs": runs}

    same = {"software": [software("a" * 40, "3.11", 5)], "packages": []}
    assert versions(same) == versions({"software": [], "packages": []}) == []
    other = [software("a" * 40, "3.11", 5), software("b" * 40, "3.12", 1, dirty=True)]
    assert versions({"software": other, "packages": [("torch", ["2.13.0", "2.12.0"])]}) == [
        "runs come from 2 versions of the code: aaaaaaaaaa (5 runs), bbbbbbbbbb with changes code-1.diff (1 run)",
        "runs ran with different packages: Python 3.11 (5 runs), 3.12 (1 run); torch 2.13.0 (5 runs), 2.12.0 (1 run)",
    ]
