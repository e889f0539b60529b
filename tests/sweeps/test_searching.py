"""Searches whose runs are made up, so that each takes no time."""

import importlib
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from atbptt import runs
from atbptt.config import Settings
from atbptt.errors import ConfigError
from atbptt.runs import SearchRecord, schema
from atbptt.sweeps import planning, searching
from atbptt.sweeps.planning import Plan, compose
from tests.conftest import TINY, Hold

Value = Callable[[Settings], float]
SPACE = ("lr=tag(log,interval(0.1,30))", "truncation=adaptive", "truncation.delta=interval(0.05,1)")
EIGHT = ("hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=3", "hydra.sweeper.sampler.n_startup_trials=3")


def bowl(settings: Settings) -> float:
    """Best at lr=3 and delta=0.5."""
    return 1 + math.log(settings.lr / 3) ** 2 + (settings.truncation["delta"] - 0.5) ** 2


class Done(NamedTuple):
    code: int
    shown: str
    record: SearchRecord | None


class Searching:
    """Calls a search whose runs have these values; an exception is how a run fails, KeyboardInterrupt ends all."""

    def __init__(self, root: Path, output: Path) -> None:
        self.root = root
        self.output = output
        self.value: Value = bowl
        self.ran: list[Settings] = []

    def __call__(self, *arguments: str, output: str = "out") -> Done:
        typed = ["-m", "hydra/sweeper=optuna", *TINY, f"output_dir={self.output}/{output}", *arguments]
        composed = compose(typed, self.root / "conf")
        assert composed is not None
        shown = io.StringIO()
        console = Console(file=shown, width=10_000, markup=False, highlight=False)
        code = searching.search(composed, console, console)
        found = sorted((self.output / output / schema.SWEEPS).glob(f"*/{schema.TRIALS}"))
        return Done(code, shown.getvalue(), runs.read_search(found[0].parent) if found else None)

    def run(self, planned: Plan, _: object) -> dict[int, object]:
        for job in planned.ahead:
            self.ran.append(job.settings)
            job.directory.make()
            try:
                value = self.value(job.settings)
            except Exception as error:
                job.directory.fail(error)
                continue
            clock = dict.fromkeys(schema.METRICS_SCHEMA.names[1:6], 1) | {"compute_seconds": 0.0}
            columns = {"metric": ["valid_ppl", "valid_ppl"], "replicate": [0, 0], "value": [value + 1, value]}
            job.directory.tables.add(schema.METRICS, columns, clock)
            job.directory.finish(epoch=job.settings.epochs, train_seconds=0.0)
        return {}


@pytest.fixture
def search(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searching:
    made = Searching(root, tmp_path)
    monkeypatch.setattr(searching, "run", made.run)
    monkeypatch.setattr(searching, "prepare", lambda _: None)
    monkeypatch.setattr(planning, "_check", lambda *_: None)  # builds what the runs need
    return made


def test_a_search_finds_the_best_and_is_told_as_it_goes(search: Searching) -> None:
    done = search(*SPACE, *EIGHT)
    assert (done.code, len(search.ran)) == (0, 8)
    assert done.record is not None
    assert [trial.value for trial in done.record.trials] == [bowl(settings) for settings in search.ran]
    best = min(search.ran, key=bowl)
    assert done.record.best is not None
    assert done.record.best.params == {"lr": best.lr, "truncation.delta": best.truncation["delta"]}
    lines = done.shown.splitlines()
    told = [line.partition(";")[0].partition(": ")[2] for line in lines[:4]]
    assert told == [f"{count} of 8 trials" for count in (0, 3, 6, 8)]
    once_more, where = lines[4:]
    assert once_more.startswith("once more: python ")
    assert once_more.endswith(f" lr={best.lr} truncation.delta={best.truncation['delta']}")
    assert where.endswith("/out/copy_fixed")
    again = search(*SPACE, *EIGHT)
    assert (again.code, again.record, len(search.ran)) == (0, done.record, 8)


@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_killed_and_continued_search_is_that_of_an_undisturbed_one(search: Searching, killed_at: int) -> None:
    expected = search(*SPACE, *EIGHT, output="undisturbed").record

    def killed(settings: Settings) -> float:
        if len(search.ran) == 8 + killed_at:
            raise KeyboardInterrupt
        return bowl(settings)

    search.value = killed
    with pytest.raises(KeyboardInterrupt):
        search(*SPACE, *EIGHT)
    assert search(*SPACE, *EIGHT).record == expected
    (search.output / "out" / schema.SWEEPS).rename(search.output / "lost")  # the finished runs have all it needs
    ran = len(search.ran)
    assert search(*SPACE, *EIGHT).record == expected
    assert len(search.ran) == ran


def test_what_is_chosen_depends_on_the_results_and_the_seed(search: Searching) -> None:
    first = search(*SPACE, *EIGHT, output="a").record
    search.value = lambda settings: -settings.lr
    second = search(*SPACE, *EIGHT, output="b").record
    assert first is not None
    assert second is not None
    same = [a.params == b.params for a, b in zip(first.trials, second.trials, strict=True)]
    assert (same[:3], any(same[3:])) == ([True] * 3, False)
    assert max(trial.params["lr"] for trial in second.trials[3:]) > 20
    third = search(*SPACE, *EIGHT, "hydra.sweeper.sampler.seed=1", output="c").record
    assert third is not None
    assert third.trials[0].params != first.trials[0].params


def test_a_search_is_extended_and_another_one_begins_anew(search: Searching) -> None:
    few = search(*SPACE, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=mine").record
    more = search(*SPACE, "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=mine").record
    assert few is not None
    assert more is not None
    assert (more.trials[:2], len(more.trials)) == (few.trials, 3)
    with pytest.raises(ConfigError, match=r"^hydra.sweeper.study_name \(=mine\) is another search, of other options"):
        search(*SPACE, "epochs=3", "hydra.sweeper.study_name=mine")
    search(*SPACE, "epochs=3", "hydra.sweeper.n_trials=1")
    assert len([*(search.output / "out" / schema.SWEEPS).iterdir()]) == 2


def test_failed_trials_are_told_and_too_many_stop_the_search(search: Searching) -> None:
    class DivergedError(RuntimeError):
        """As of a run whose loss is no longer finite."""

    def failing(error: type[Exception], above: float) -> Value:
        def value(settings: Settings) -> float:
            if settings.lr > above:
                raise error("no more")
            return settings.lr

        return value

    strict = (*SPACE, *EIGHT, "hydra.sweeper.max_failure_rate=0.4")
    search.value = failing(OSError, 0)
    done = search(*strict)
    assert done.code == 1
    assert " stops, since 3 of 3 trials failed: the same command retries the last ones; " in done.shown
    assert done.record is not None
    assert [trial.state for trial in done.record.trials] == [runs.WAITING] * 3
    search.value = failing(OSError, 10)  # one of three
    done = search(*strict)
    assert done.record is not None
    assert [trial.state for trial in done.record.trials[:3]] == [schema.FINISHED, schema.FAILED, schema.FINISHED]
    assert str(done.record.trials[1].reason).startswith("OSError: no more (")
    search.value = failing(DivergedError, 0)
    done = search(*strict, "seed=1")
    assert (done.code, done.shown.splitlines()[-2].partition(": ")[2]) == (1, "8 of 8 trials, 8 failed")


def test_bad_values_end_a_first_batch_and_later_fail_their_trial(search: Searching) -> None:
    tau = "probe.tau=shuffle(range(5,12))"
    with pytest.raises(ConfigError, match=r"^probe.tau \(=11\) must be smaller than"):
        search("lr=interval(1,2)", tau, "probe.window=11", *EIGHT)
    assert list(search.output.iterdir()) == []
    later = ("probe.window=9,12", "probe.tau=7,10", "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=4")
    search.value = lambda settings: settings.probe.tau
    done = search(*later, "hydra.sweeper.sampler.seed=1")
    assert done.record is not None
    bad = {"probe.window": "9", "probe.tau": "10"}
    assert [(trial.params == bad, trial.runs == []) for trial in done.record.trials[:2]] == [(False, False)] * 2
    failed = [trial for trial in done.record.trials if trial.params == bad]
    assert failed != []
    for trial in failed:
        assert (trial.state, trial.runs) == (schema.FAILED, [])
        assert str(trial.reason).startswith("probe.tau (=10) must ")


def test_the_value_of_a_trial_is_the_mean_over_init(search: Searching) -> None:
    search.value = lambda settings: settings.lr + settings.init
    done = search("lr=interval(1,2)", "init=1,3", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1")
    assert done.record is not None
    assert [(trial.value, len(trial.runs)) for trial in done.record.trials] == [
        (pytest.approx(trial.params["lr"] + 2), 2) for trial in done.record.trials
    ]
    assert done.shown.splitlines()[-2].endswith(" init=1,3")


def test_trials_with_one_choice_lack_the_options_of_another(search: Searching) -> None:
    search.value = lambda settings: settings.lr
    both = ("truncation=fixed,adaptive", "truncation.K=range(3,9)", "truncation.delta=interval(0.1,1)", "lr=1,2")
    assert search(*both, *EIGHT, "hydra.sweeper.n_jobs=1").code == 0
    assert {(each.truncation["name"], "K" in each.truncation) for each in search.ran} == {
        ("fixed", True),
        ("adaptive", False),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("epochs=1,2", r"^epochs cannot be searched: trials that differ in it cannot be compared$"),
        ("lr=1,2 +hydra.sweeper.sampler.fast=1", r"^hydra.sweeper.sampler is refused by Optuna: TypeError: .*'fast'"),
    ],
)
def test_what_cannot_be_searched_is_named(search: Searching, arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search(*arguments.split())


def test_a_preview_shows_the_next_batch_and_changes_nothing(search: Searching) -> None:
    shown = search(*SPACE, *EIGHT, "preview=true").shown
    assert shown.splitlines()[1:3] == ["  lr: 0.1 to 30, log", "  truncation.delta: 0.05 to 1"]
    assert list(search.output.iterdir()) == []
    search(*SPACE, *EIGHT)
    assert [f"lr={each.lr} truncation.delta={each.truncation['delta']}" in shown for each in search.ran[:4]] == [
        *([True] * 3),
        False,
    ]


def test_one_process_at_a_time_works_on_a_search(search: Searching, hold: Hold) -> None:
    folder = search.output / "out" / schema.SWEEPS / "mine"
    folder.mkdir(parents=True)
    hold(folder)
    with pytest.raises(ConfigError, match=r"^hydra.sweeper.study_name \(=mine\) is being run by another process"):
        search(*SPACE, "hydra.sweeper.study_name=mine")
    (folder / schema.TRIALS).write_text("[")
    with pytest.raises(ConfigError, match=r"trials.json cannot be read \(.*\): delete it, and the search finds its"):
        search(*SPACE, "hydra.sweeper.study_name=mine")


def test_a_run_that_is_not_over_keeps_its_trial_waiting(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(planned: Plan, _: object) -> dict[int, object]:
        planned.ahead[0].directory.make()
        planned.ahead[0].directory.stop("SIGTERM")
        return {}

    monkeypatch.setattr(searching, "run", run)
    done = search(*SPACE, *EIGHT)
    assert done.code == 1
    assert done.record is not None
    assert [trial.state for trial in done.record.trials] == [runs.WAITING] * 3
    assert "interrupted  trial 0: " in done.shown


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "atbptt.sweeps.searching")
    with pytest.raises(
        ConfigError, match=r'^hydra/sweeper \(=optuna\) needs .* pip install "atbptt\[search\]" \(optun'
    ):
        importlib.import_module("atbptt.sweeps.searching")
