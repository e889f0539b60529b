import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import COMPLETE, DIVERGED, ID
from atbptt.training.experiment import build_policy
from atbptt.windows.schemes import check_scheme
from benchmarks.comparison import comparing, page, rounds
from benchmarks.comparison.tasks import SCHEMES, TASKS, ComparedTask
from benchmarks.composing import settings_of
from tests.helpers import made_runs

TASK = ComparedTask("copy", "Copy", {"dataset": "copy_fixed", "epochs": 3}, (2, 4, 6, 8), 40, 1.0, (1, 3, 10), 4, 3, 2)


def columns(setting: Any) -> dict[str, Any]:
    """The options of a setting as `analysis.load_options` has them."""
    return {name: value for name, value in setting.options.items() if value != "false"}


class Machine:
    """Makes a row instead of a run: the lr nearest to `best` is best, and from `broken` on runs diverge."""

    def __init__(self, best: float, broken: float) -> None:
        self.best, self.broken = best, broken
        self.commands: list[dict[str, str]] = []
        self.rows: dict[str, dict[str, Any]] = {}

    def launch(self, _: object, overrides: list[str]) -> None:
        command = dict(each.split("=", 1) for each in overrides)
        self.commands.append(command)
        (setting,) = (s for s in TASK.settings("tf") if columns(s).items() <= self.typed(command).items())
        for lr in map(float, command["lr"].split(",")):
            for init in range(int(command["init"].removeprefix("range(").rstrip(")"))):
                ending = COMPLETE if lr < self.broken else DIVERGED
                row = {**columns(setting), "phase": command["phase"], "lr": lr, "init": init, "ending": ending}
                self.rows[str(row)] = {**row, "valid": abs(np.log(lr / self.best)) + init / 10}

    @staticmethod
    def typed(command: dict[str, str]) -> dict[str, Any]:
        def value(text: str) -> Any:
            try:
                return int(text) if text.isdecimal() else float(text)
            except ValueError:
                return text

        return {name: value(text) for name, text in command.items()}

    def endings_of(self, _: Path) -> pd.DataFrame:
        return pd.DataFrame([*self.rows.values()])


@pytest.mark.parametrize(("best", "broken"), [(3, 1e9), (100, 1e9), (0.1, 1e9), (30, 25), (10, 0.5)])
def test_every_setting_ends_at_a_best_lr_that_is_not_at_the_edge(
    best: float, broken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(best, broken)
    monkeypatch.setattr(rounds, "_launch", machine.launch)
    monkeypatch.setattr(rounds, "endings_of", machine.endings_of)
    rounds.run_all(TASK, "tf", lambda _: None)
    runs = machine.endings_of(Path())
    found = min(best, 10 if broken == 25 else 0.3 if broken == 0.5 else best)
    for setting in TASK.settings("tf"):
        own = rounds.runs_of(runs, setting, phase=setting.phases[0])
        tried = own.loc[own["init"] < 2, "lr"]
        assert tried.min() < found < tried.max()
        for phase in setting.phases:
            inits = rounds.runs_of(runs, setting, lr=found, phase=phase)["init"]
            assert sorted(inits) == [*range({"random": 4, "fixed": 3}[phase])]


def test_what_has_been_launched_ends_with_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command fails to start; the other, which would sleep, is ended, and the third is not started."""
    (tmp_path / "launch.py").write_text("import sys, time; print('begun', flush=True); time.sleep(float(sys.argv[2]))")
    monkeypatch.setattr(rounds, "ROOT", tmp_path)
    monkeypatch.setattr(rounds, "LOG", tmp_path / "log")
    monkeypatch.setattr(rounds, "available_cores", lambda: 2)
    began = time.monotonic()
    with pytest.raises(ValueError, match="embedded null byte"):
        rounds.launch([["0\0"], ["300"], ["300"]])
    assert time.monotonic() - began < 60
    assert (tmp_path / "log").read_text().count("begun") <= 1


@pytest.mark.parametrize("change", ["missing", "failed", "unevaluated", "of another setting"])
def test_runs_that_have_not_ended_by_themselves_are_an_error(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They say nothing of their lr: in the first round as in the last."""
    machine = Machine(3, 1e9)

    def endings_of(_: Path) -> pd.DataFrame:
        runs = machine.endings_of(Path())
        last = (runs["lr"] == 3) & (runs["init"] == (3 if runs["init"].max() > 1 else 1))
        if change == "missing":
            return runs[~last]
        if change == "of another setting":
            return pd.concat([runs, runs[last]])
        ending = "unfinished" if change == "failed" else np.nan
        return runs.assign(ending=runs["ending"].mask(last, ending))

    monkeypatch.setattr(rounds, "_launch", machine.launch)
    monkeypatch.setattr(rounds, "endings_of", endings_of)
    message = r"^{'truncation': 'fixed', 'truncation.K': 2}: \d of \d runs have ended, and should be 2; outputs"
    with pytest.raises(rounds.RunsMissingError, match=message):
        rounds.run_all(TASK, "tf", lambda _: None)
    monkeypatch.setattr(rounds, "scores_of", lambda *_: {1.0: 2.0, 3.0: 1.0, 10.0: 2.0})
    with pytest.raises(rounds.RunsMissingError, match=r"and should be [34];"):
        rounds.run_all(TASK, "tf", lambda _: None)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_command_is_one_that_launch_takes(task: ComparedTask, scheme: str) -> None:
    for setting in task.settings(scheme):
        overrides = rounds.command(task, scheme, setting, [3.0], 1, setting.phases[0])
        settings = settings_of(*(each.replace("range(1)", "0") for each in overrides))
        check_scheme(build_policy(settings), settings.scheme, settings.phase)
        assert (settings.lr, settings.lr_scaling, settings.epochs) == (3.0, "sqrt", task.options["epochs"])
        assert settings.name == f"{task.name}-{scheme}"


def runs(phase: str) -> Iterator[pd.DataFrame]:
    """K = 2 is slower than K = 4, which is best; progress ends as well, but not in time. Four evaluations a run."""
    curves = {2: (1.9, 1.6, 1.4), 4: (1.6, 1.3, 1.1), "progress": (1.9, 1.8, 1.1)}
    for name, curve in curves.items():
        policy = {"truncation": "progress", "truncation.K": None} if name == "progress" else {"truncation.K": name}
        for init in range(4):
            values = [6.0, *(value * (1 + 0.01 * init) for value in curve)]
            K = [2, 3, 5, 9] if name == "progress" else [name] * 4
            metrics = {"valid_ppl": values, "test_ppl": values, "K": K}
            frame = made_runs.run(f"{name}-{phase}-{init}", metrics, init=init, phase=phase, epochs=3.0, **policy)
            yield frame.assign(compute_seconds=frame["epoch"] * (2 if name == 2 else 1 + (name == "progress") / 10))


def test_the_table_compares_after_equal_epochs_and_after_equal_time() -> None:
    found = comparing.compared("Copy", "tf", made_runs.sweep(*runs("random"), *runs("fixed")))
    heading, *lines = page.table(found)
    assert heading == "### Copy, `scheme=tf`\n"
    assert lines[0] == "PPL, mean (sd). Equal time is 3 s of the processor; the best fixed K then is fixed K=4.\n"
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in lines[1:-1]}
    assert [*rows] == ["policy", "---", "fixed K=4", "progress", "fixed K=2"]
    assert rows["fixed K=4"][:5] == ["1", "4", "1.117 (0.014)", "1.117 (0.014)", "1.117 (0.014)"]
    lr, K, valid, test, timed, difference, *_ = rows["progress"]
    assert (lr, K, valid, test, timed) == ("1", "5 (3-9)", "1.117 (0.014)", "1.117 (0.014)", "1.827 (0.023)")
    assert difference == "+63.64 (0.00)"
    assert rows["fixed K=2"][3:5] == ["1.421 (0.018)", "1.928 (0.025)"]


def test_the_page_keeps_what_is_written_around_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "comparison.md"
    written.write_text(f"Before.\n\n{page.MARKS[0]}\nold\n{page.MARKS[1]}\n\nAfter.\n")
    monkeypatch.setattr(page, "PAGE", written)
    frame = made_runs.sweep(*runs("random"), *runs("fixed"))
    monkeypatch.setattr(page, "chosen_runs", lambda *_: frame)
    (tmp_path / "copy-tf").mkdir()
    for _ in range(2):
        page.write_page([TASK], tmp_path)
        text = written.read_text()
        assert text.startswith(
            f"Before.\n\n{page.MARKS[0]}\n\n![{page.ALT}](comparison.png)\n\n### Copy, `scheme=tf`\n"
        )
        assert text.endswith(f"|\n\n{page.MARKS[1]}\n\nAfter.\n")
        assert "old" not in text
        assert (tmp_path / "comparison.png").stat().st_size > 5000


def test_only_runs_at_the_best_lr_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            **columns(setting),
            **{ID: f"{n} {lr} {init}", "phase": setting.phases[0], "lr": lr, "init": init, "valid": valid},
            "ending": DIVERGED if (lr, init) == (10, 1) else COMPLETE,
        }
        for n, setting in enumerate(TASK.settings("original-buffer"))
        for lr, valid in ((1.0, 2.0), (3.0, 1.0), (10.0, 0.5))
        for init in range(2)
    ]
    monkeypatch.setattr(comparing, "endings_of", lambda _: pd.DataFrame(rows))
    monkeypatch.setattr(comparing.analysis, "load", lambda _: pd.DataFrame({ID: [row[ID] for row in rows]}))
    found = comparing.chosen_runs(TASK, "original-buffer", Path())[ID]
    assert sorted(found) == sorted(f"{n} 3.0 {i}" for n in range(12) for i in range(2))
