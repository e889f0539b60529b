from pathlib import Path
from typing import Any

import pytest

from analysis.loading import Results
from analysis.report.outcomes import outcomes
from analysis.report.summary import BAD, GOOD, NOTE, Remark, listed, remarks, verdict
from atbptt.monitor import Reader
from atbptt.runs import schema
from atbptt.system.locks import hold
from tests.analysis.conftest import WriteRun
from tests.helpers.made import write_plan, write_status

DIVERGED = "diverged, the last validation is not finite, or no better than before training"


def summarized(outputs: Path, steps_before: int = 0) -> list[Remark]:
    """The verdict on the runs, then the remarks; as if all but the run `late` had begun so many steps later."""
    results, report = Results(outputs), Reader([outputs]).read()
    frame = results.frame
    frame["step"] -= steps_before * (frame["experiment_id"] != "late")
    nothing: dict[str, Any] = {"software": [], "packages": []}
    known = remarks(outcomes(frame, results.options, results.statuses, report.runs), results, report, nothing, [])
    return [verdict(report.runs, known), *known]


def test_settings_that_still_improve(outputs: Path, write_run: WriteRun) -> None:
    for init, name in enumerate("ab"):
        write_run(name, {"valid_ppl": [1.5, 1.2, 1.3]}, init=init)
    assert summarized(outputs) == [Remark(GOOD, "All 2 runs finished.")]
    write_run("c", {"valid_ppl": [1.5, 1.2]}, lr=3.0)
    write_run("d", {"valid_ppl": [1.2]}, lr=9.0)  # has no other
    first, note = summarized(outputs)
    assert first == Remark(GOOD, "All 4 runs finished, with something to look at.")
    assert (note.level, note.anchor) == (NOTE, "figures")
    assert note.text == (
        "1 of 3 settings still improved in the last tenth of training (fixed K=5, lr=3): "
        "the same command with larger epochs extends them"
    )


@pytest.mark.parametrize("last", [float("nan"), float("inf")])
def test_runs_that_diverged(outputs: Path, write_run: WriteRun, last: float) -> None:
    write_run("a", {"valid_ppl": [1.2, last]}, lr=100.0)
    write_run("b", {"valid_ppl": [1.5, 1.2, 1.3]}, lr=1.0)
    text = f"1 of 2 runs {DIVERGED}: fixed K=5, lr=100"
    assert summarized(outputs) == [
        Remark(BAD, "All 2 runs finished, but not all is well."),
        Remark(BAD, text, "leaderboard"),
    ]


def test_runs_that_learned_nothing(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [1.2, 1.5, 1.4]})
    write_run("b", {"valid_ppl": [1.5, 1.2, 1.4]}, init=1)
    write_run("c", {"valid_ppl": [1.2, 1.5, float("nan")]}, lr=2.0)  # diverged, which says it
    write_run("late", {"valid_ppl": [1.5, 1.2, 1.4]}, init=2)
    texts = [remark.text for remark in summarized(outputs, steps_before=100)[1:]]  # an evaluation before training
    assert texts == [f"2 of 4 runs {DIVERGED}: fixed K=5, lr=1; fixed K=5, lr=2"]


def test_K_at_the_end_of_its_range(outputs: Path, write_run: WriteRun) -> None:
    adaptive = {"truncation": "adaptive", "truncation__K": None, "truncation__K_min": 2, "truncation__K_max": 9}
    write_run("a", {"valid_ppl": [1.5, 1.2, 1.3], "K": [5, 9, 9]}, **adaptive)
    write_run("b", {"valid_ppl": [1.5, 1.2, 1.3], "K": [9, 9, 2]}, **adaptive)
    write_run("c", {"valid_ppl": [1.5, 1.2, 1.3], "K": [9, 9, 9]})  # fixed, has no range
    assert [remark.text for remark in summarized(outputs)[1:]] == [
        "1 of 2 runs that choose K came to the largest allowed: truncation.K_max=9",
        "1 of 2 runs that choose K came to the smallest allowed: truncation.K_min=2",
    ]


def test_runs_that_are_not_over(outputs: Path, write_run: WriteRun) -> None:
    done = write_run("a", {"valid_ppl": [1.5, 1.2, 1.3]})
    going = write_run("b", {"valid_ppl": [1.5]})
    write_status(going, schema.RUNNING)
    write_run("d", None, state=schema.INTERRUPTED)
    folder = write_plan(outputs, "first", {"a": done, "b": going, "c": outputs / "demo" / "c"}, started=0.0)
    with hold(going / schema.LOCK), hold(folder / schema.LOCK):
        assert summarized(outputs) == [
            Remark(NOTE, "1 of 4 runs finished so far; the results below are of what has been evaluated."),
            # 2 epochs left at 5 s each, then a run of 4
            Remark(NOTE, "1 of 4 runs still running, about 30 s left", "leaderboard"),
            Remark(NOTE, "1 of 4 runs have yet to begin"),
            Remark(NOTE, "1 of 4 runs interrupted: the same command again continues them", "leaderboard"),
        ]
    assert Remark(NOTE, "1 of 4 runs never began: the same command again runs them") in summarized(outputs)


def test_a_long_list_is_cut() -> None:
    assert listed("abc", 3) == "a, b, c"
    assert listed("abcde", 3) == "a, b, c and 2 more"
