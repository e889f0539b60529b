"""Searches whose runs are made up, so that each takes no time."""

import functools
import importlib
import io
import json
import math
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from rich.console import Console

from atbptt import config, runs
from atbptt.config import Settings
from atbptt.errors import ConfigError
from atbptt.runs import Origin, RunStatus, SearchRecord, Trial, schema
from atbptt.sweeps import planning, searching
from atbptt.sweeps.planning import Composed, Plan, compose
from atbptt.sweeps.process import Outcome
from tests.conftest import TINY, Hold

Value = Callable[[Settings], float]
SPACE = ("lr=tag(log,interval(0.1,30))", "truncation=adaptive", "truncation.delta=interval(0.05,1)")


def bowl(settings: Settings) -> float:
    """Best at lr=3 and delta=0.5."""
    return 1 + math.log(settings.lr / 3) ** 2 + (settings.truncation["delta"] - 0.5) ** 2


class Silent:
    """A launcher that does not say how many runs it has at once."""


class Done(NamedTuple):
    code: int
    shown: str
    record: SearchRecord | None


@functools.cache
def composed_once(root: Path, arguments: tuple[str, ...]) -> Composed:
    """It takes a second, and does not depend on the folder of the test."""
    composed = compose(["-m", "hydra/sweeper=optuna", *TINY, *arguments], root / "conf")
    assert composed is not None
    return composed


class Searching:
    """Calls a search whose runs have these values; an exception is how a run fails, KeyboardInterrupt ends all."""

    def __init__(self, root: Path, outputs: Path) -> None:
        self.root = root
        self.outputs = outputs
        self.value: Value = bowl
        self.ran: list[Settings] = []

    def __call__(self, *arguments: str, preview: bool = False, startup: int = 3, **options: Any) -> Done:
        composed = composed_once(self.root, arguments or SPACE)
        assert composed.space is not None
        sampler = composed.space.options.sampler | {"n_startup_trials": startup, "seed": options.pop("seed", 0)}
        chosen = {"n_trials": 8, "n_jobs": 3, **options, "sampler": sampler}
        space = replace(composed.space, options=replace(composed.space.options, **chosen))
        command = replace(composed.command, preview=preview)
        shown = io.StringIO()
        console = Console(file=shown, width=10_000, markup=False, highlight=False)
        code = searching.search(replace(composed, space=space, command=command), console, console)
        found = sorted((self.outputs / schema.SWEEPS).glob(f"*/{schema.TRIALS}"))
        return Done(code, shown.getvalue(), runs.read_search(found[0].parent) if found else None)

    def trials(self, *arguments: str, **options: Any) -> list[Trial]:
        """Of the search, which must begin or continue."""
        record = self(*arguments, **options).record
        assert record is not None
        return record.trials

    def elsewhere(self, name: str) -> None:
        """Put what is stored away: the next search begins anew."""
        self.outputs.rename(self.outputs.with_name(name))

    def run(self, planned: Plan, _: object) -> tuple[str, dict[int, Outcome]]:
        for job in planned.ahead:
            self.ran.append(job.settings)
            job.directory.make()
            (job.directory.path / schema.CONFIG).touch()  # for notes
            try:
                value = self.value(job.settings)
            except Exception as error:
                job.directory.fail(error)
                continue
            clock = dict.fromkeys(schema.METRICS_SCHEMA.names[1:6], 1) | {"compute_seconds": 0.0}
            columns = {"metric": ["valid_ppl", "valid_ppl"], "replicate": [0, 0], "value": [value + 1, value]}
            job.directory.tables.add(schema.METRICS, columns, clock)
            job.directory.finish(epoch=job.settings.epochs, train_seconds=0.0)
        return "", {}


@pytest.fixture
def search(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searching:
    monkeypatch.chdir(tmp_path)
    made = Searching(root, tmp_path / "outputs")
    monkeypatch.setattr(searching, "run", made.run)
    monkeypatch.setattr(searching, "prepare", lambda _: None)
    monkeypatch.setattr(planning, "_check", lambda *_: None)  # builds what the runs need
    monkeypatch.setattr(config, "as_job", lambda *_: nullcontext())  # takes a tenth of a second
    return made


def test_a_search_finds_the_best_and_prints_each_step(search: Searching) -> None:
    done = search()
    assert (done.code, len(search.ran)) == (0, 8)
    assert done.record is not None
    assert [trial.value for trial in done.record.trials] == [bowl(settings) for settings in search.ran]
    best = min(search.ran, key=bowl)
    assert done.record.best is not None
    assert done.record.best.params == {"lr": best.lr, "truncation.delta": best.truncation["delta"]}
    lines = done.shown.splitlines()
    progress = [line.partition(";")[0].partition(": ")[2] for line in lines[:4]]
    assert progress == [f"{count} of 8 trials" for count in (0, 3, 6, 8)]
    once_more, where = lines[4:]
    chosen = f"lr={best.lr} truncation.delta={best.truncation['delta']}"
    assert once_more == f"once more: python {shlex.quote(sys.argv[0])} {' '.join(TINY)} truncation=adaptive {chosen}"
    assert where.endswith(" outputs/copy_fixed")
    again = search()
    assert (again.code, again.record, len(search.ran)) == (0, done.record, 8)


@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_killed_and_continued_search_is_that_of_an_undisturbed_one(search: Searching, killed_at: int) -> None:
    expected = search.trials()
    search.elsewhere("undisturbed")

    def killed(settings: Settings) -> float:
        if len(search.ran) == 8 + killed_at:
            raise KeyboardInterrupt
        return bowl(settings)

    search.value = killed
    with pytest.raises(KeyboardInterrupt):
        search()
    assert search.trials() == expected
    (search.outputs / schema.SWEEPS).rename(search.outputs / "lost")  # the finished runs have all it needs
    ran = len(search.ran)
    assert search.trials() == expected
    assert len(search.ran) == ran


def test_what_is_chosen_depends_on_the_results_and_the_seed(search: Searching) -> None:
    first = search.trials()
    search.elsewhere("first")
    search.value = lambda settings: -settings.lr
    second = search.trials()
    same = [a.params == b.params for a, b in zip(first, second, strict=True)]
    assert (same[:3], any(same[3:])) == ([True] * 3, False)
    assert max(trial.params["lr"] for trial in second[3:]) > 20
    search.elsewhere("second")
    third = search.trials(seed=1, n_trials=3)
    assert {trial.params["lr"] for trial in first[:3]}.isdisjoint(trial.params["lr"] for trial in third)


def test_a_search_is_extended_and_another_one_begins_anew(search: Searching) -> None:
    few = search.trials(n_trials=2, study_name="mine")
    more = search.trials(n_trials=3, study_name="mine")
    assert (more[:2], len(more)) == (few, 3)
    with pytest.raises(ConfigError, match=r"^hydra.sweeper.study_name \(=mine\) is another search, of other options"):
        search(*SPACE, "epochs=3", study_name="mine")
    search(*SPACE, "epochs=3", n_trials=1)
    assert len([*(search.outputs / schema.SWEEPS).iterdir()]) == 2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda _, trial: trial["params"].update({"+truncation.cmd": "touch ran"}), r"must be those of the space"),
        (lambda _, trial: trial["params"].update(lr="1,\\${oc.env:HOME}"), r"lr \(=.*must be chosen from 0.1 to 30"),
        (lambda stored, _: stored["space"]["lr"].update(high=31), "study_name \\(=mine\\) is another search"),
        (lambda stored, _: stored.update(metric="test_ppl"), "study_name \\(=mine\\) is another search"),
    ],
)
@pytest.mark.parametrize("state", [runs.WAITING, schema.FINISHED])
def test_the_record_of_somebody_else_adds_no_override(
    search: Searching, spoil: Callable[[Any, Any], object], words: str, state: str
) -> None:
    search(n_trials=2, study_name="mine")
    path = search.outputs / schema.SWEEPS / "mine" / schema.TRIALS
    stored = json.loads(path.read_text())
    stored["trials"][0] |= {"state": state, "value": None if state == runs.WAITING else 1.0}
    spoil(stored, stored["trials"][0])
    path.write_text(json.dumps(stored))
    for preview in (True, False):
        with pytest.raises(ConfigError, match=words):
            search(n_trials=3, study_name="mine", preview=preview)
    assert len(search.ran) == 2


def test_a_trial_that_is_set_back_is_run_again(search: Searching) -> None:
    """Without those after it."""
    before = search.trials(n_trials=3, study_name="mine")
    path = search.outputs / schema.SWEEPS / "mine" / schema.TRIALS
    stored = json.loads(path.read_text())
    stored["trials"][0] |= {"state": runs.WAITING, "value": None}
    path.write_text(json.dumps(stored))
    assert search.trials(n_trials=3, study_name="mine") == before


def test_failed_trials_are_shown_and_too_many_stop_the_search(search: Searching) -> None:
    class DivergedError(RuntimeError):
        """As of a run whose loss is no longer finite."""

    def failing(error: type[Exception], above: float) -> Value:
        def value(settings: Settings) -> float:
            if settings.lr > above:
                raise error("no more")
            return settings.lr

        return value

    search.value = failing(OSError, 0)
    done = search(max_failure_rate=0.4)
    assert done.code == 1
    assert " stops, since 3 of 3 trials failed: the same command retries the last ones; " in done.shown
    assert done.record is not None
    assert [trial.state for trial in done.record.trials] == [runs.WAITING] * 3
    search.value = failing(OSError, 10)  # one of three
    trials = search.trials(max_failure_rate=0.4)
    assert [trial.state for trial in trials[:3]] == [schema.FINISHED, schema.FAILED, schema.FINISHED]
    assert str(trials[1].reason).startswith("OSError: no more (")
    search.elsewhere("failing")
    search.value = failing(DivergedError, 0)
    done = search(max_failure_rate=0.4)
    assert (done.code, done.shown.splitlines()[-2].partition(": ")[2]) == (1, "8 of 8 trials, 8 failed")


def test_corners_are_built_before_the_first_trial(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(planned: Plan, *_: object) -> None:
        raise ConfigError("lr", f"is refused of {len(planned.ahead)} runs")

    monkeypatch.setattr(planning, "_check", refuse)
    with pytest.raises(ConfigError, match="lr is refused of 3 runs"):
        search()
    assert not search.outputs.exists()


def test_bad_corners_end_the_command_and_other_bad_values_fail_their_trial(search: Searching) -> None:
    with pytest.raises(ConfigError, match=r"^probe.tau \(=11\) must be smaller than"):
        search("lr=interval(1,2)", "probe.tau=shuffle(range(5,12))", "probe.window=11")
    assert not search.outputs.exists()
    search.value = lambda settings: settings.probe.tau
    trials = search.trials("probe.window=9,12", "probe.tau=7,10", n_jobs=1, n_trials=4, seed=1)
    bad = {"probe.window": "9", "probe.tau": "10"}
    failed = [trial for trial in trials if trial.params == bad]
    assert 0 < len(failed) < 4
    for trial in trials:
        assert (trial.state == schema.FAILED, trial.runs == []) == (trial in failed, trial in failed)
        assert trial not in failed or str(trial.reason).startswith("probe.tau (=10) must ")
    (path,) = search.outputs.glob(f"{schema.SWEEPS}/*/{schema.TRIALS}")
    stored = json.loads(path.read_text())
    stored["trials"][failed[0].number] |= {"state": schema.FINISHED, "value": -1.0}  # as somebody else may claim
    path.write_text(json.dumps(stored))
    assert "once more" not in search("probe.window=9,12", "probe.tau=7,10", n_jobs=1, n_trials=4, seed=1).shown


def test_the_value_of_a_trial_is_the_mean_over_init(search: Searching) -> None:
    search.value = lambda settings: settings.lr + settings.init
    done = search("lr=interval(1,2)", "init=1,3", n_trials=2, n_jobs=1)
    assert done.record is not None
    assert [(trial.value, len(trial.runs)) for trial in done.record.trials] == [
        (pytest.approx(trial.params["lr"] + 2), 2) for trial in done.record.trials
    ]
    assert done.shown.splitlines()[-2].endswith(" init=1,3")


def test_trials_with_one_choice_lack_the_options_of_another(search: Searching) -> None:
    search.value = lambda settings: settings.lr
    both = ("truncation=fixed,adaptive", "truncation.K=range(3,9)", "truncation.delta=interval(0.1,1)", "lr=1,2")
    done = search(*both, n_jobs=1)
    assert done.code == 0
    (once_more,) = (line for line in done.shown.splitlines() if line.startswith("once more: "))
    assert ("truncation=fixed" in once_more) == ("truncation.K=" in once_more) != ("truncation.delta=" in once_more)
    assert {(each.truncation["name"], "K" in each.truncation) for each in search.ran} == {
        ("fixed", True),
        ("adaptive", False),
    }


def test_a_batch_is_as_many_trials_as_the_launcher_runs_at_once(
    search: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_batches(*arguments: str, n_jobs: int | None = None) -> list[str]:
        shown = search("lr=interval(1,2)", *arguments, n_jobs=n_jobs, n_trials=4).shown.splitlines()
        search.elsewhere(str(len(search.ran)))
        return [line.split()[1] for line in shown if " of 4 trials" in line]

    monkeypatch.setattr(searching, "available_cores", lambda: 2)
    monkeypatch.setattr(planning, "available_cores", lambda: 2)
    search.value = lambda settings: settings.lr
    assert in_batches("hydra.launcher.n_jobs=3") == ["0", "3", "4"]
    assert in_batches("hydra.launcher.n_jobs=4", "init=0,1") == ["0", "2", "4"]
    assert in_batches("hydra/launcher=basic") == ["0", "1", "2", "3", "4"]
    assert in_batches("hydra/launcher=submitit_local") == ["0", "2", "4"]
    with pytest.raises(ConfigError, match=r"^hydra/launcher \(=submitit_local, for 3 runs\) starts all runs at once"):
        in_batches("hydra/launcher=submitit_local", n_jobs=3)
    with pytest.raises(ConfigError, match=r"^hydra/launcher \(=submitit_local, for 3 runs\) starts all runs at once"):
        in_batches("hydra/launcher=submitit_local", "init=range(3)")
    search.value = lambda settings: 1 / (settings.lr - settings.lr)  # four that have failed count in no batch of two
    options = {"n_jobs": None, "n_trials": 4, "max_failure_rate": 1}
    assert search("lr=interval(1,2)", "hydra/launcher=submitit_local", **options).code == 1
    search.elsewhere("failing")
    monkeypatch.setattr(config, "launcher_options", lambda _: {"_target_": f"{__name__}.Silent"})
    with pytest.raises(ConfigError, match=r"^hydra.sweeper.n_jobs \(=null\) must be given: the launcher does not say"):
        in_batches()


def test_what_runs_may_need_is_imported_even_if_all_corners_have_finished(
    search: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    search.value = lambda settings: settings.lr
    search("lr=1,2", n_trials=4)
    prepared: list[Plan] = []
    monkeypatch.setattr(searching, "prepare", prepared.append)
    search("lr=1,2", n_trials=5)
    assert [len(planned.ahead) for planned in prepared] == [2]


def test_the_data_are_built_for_no_trial_again(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(planning, "_check", lambda _plan, _policies, tasks: kept.append(id(tasks)))
    search(n_trials=3)
    assert (len(kept), len(set(kept))) == (4, 1)  # of the corners and of each trial


def test_notes_of_a_finished_search_are_stored(search: Searching) -> None:
    before = search.trials(n_trials=2)
    assert search.trials(*SPACE, "notes=late", n_trials=2) == before
    stored = [yaml.safe_load((run / schema.CONFIG).read_text())["notes"] for run in search.outputs.glob("copy_fixed/*")]
    assert stored == ["late"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("dataset.max_length=2,3", r"^dataset cannot be searched: trials that differ in it cannot be compared$"),
        ("dataset=copy_fixed,linear", r"^dataset cannot be searched: trials that differ in it cannot be compared$"),
        ("epochs=1,2", r"^epochs cannot be searched: trials that differ in it cannot be compared$"),
        ("model.hidden=interval(2,9)", r"^model.hidden \(=4.59259\) must be a valid integer$"),
    ],
)
def test_what_cannot_be_searched_is_named(search: Searching, arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search(*arguments.split())
    assert not search.outputs.exists()


def test_a_preview_shows_the_next_batch_and_changes_nothing(search: Searching) -> None:
    shown = search(preview=True).shown
    assert shown.splitlines()[1:3] == ["  lr: 0.1 to 30, log", "  truncation.delta: 0.05 to 1"]
    assert not search.outputs.exists()
    search(n_trials=4)
    labels = [f"lr={each.lr} truncation.delta={each.truncation['delta']}" for each in search.ran]
    assert [label in shown for label in labels] == [True, True, True, False]


def test_one_process_at_a_time_works_on_a_search(search: Searching, hold: Hold) -> None:
    folder = search.outputs / schema.SWEEPS / "mine"
    folder.mkdir(parents=True)
    hold(folder)
    with pytest.raises(ConfigError, match=r"^hydra.sweeper.study_name \(=mine\) is being run by another process"):
        search(study_name="mine")
    (folder / schema.TRIALS).write_text("[")
    with pytest.raises(ConfigError, match=r"trials.json cannot be read \(.*\): delete it, and the search finds its"):
        search(study_name="mine")


@pytest.mark.parametrize("ending", ["interrupted", "running"])
def test_a_run_that_is_not_over_keeps_its_trial_waiting(
    search: Searching, hold: Hold, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    def run(planned: Plan, _: object) -> tuple[str, dict[int, Outcome]]:
        directory = planned.ahead[0].directory
        directory.make()
        if ending == "interrupted":
            directory.begin(Origin("sweep", {"repositories": []}))
            directory.stop("SIGTERM")
        else:
            hold(directory.path)
            monkeypatch.setattr(runs, "read_run", lambda path: RunStatus(path, runs.STALE, path.name))  # it hangs
        return "sweep", {}

    monkeypatch.setattr(searching, "run", run)
    done = search()
    assert done.code == 1
    assert done.record is not None
    assert [trial.state for trial in done.record.trials] == [runs.WAITING] * 3
    assert f"{ending:11}  trial 0: " in done.shown


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "atbptt.sweeps.searching")
    with pytest.raises(ConfigError, match=r"^hydra/sweeper \(=optuna\) needs .* '\.\[search\]' in the clone \(optun"):
        importlib.import_module("atbptt.sweeps.searching")
