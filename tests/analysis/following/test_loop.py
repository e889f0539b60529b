import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.following import loop
from analysis.following.runs import Run
from atbptt.errors import AnalysisError
from atbptt.runs import schema
from tests.analysis.conftest import WriteRun
from tests.conftest import ROOT


class Kept:
    """A tracker that keeps the runs, and does not take those in `refused`, or none while it is `away`."""

    shown_by = "nothing"

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.refused: set[str] = set()
        self.away = self.closed = False
        self.asked = 0

    def record(self, run: Run) -> int:
        self.asked += 1
        if self.away or run.id in self.refused:
            raise ConnectionError(f"no way\nfor {run.id}")
        self.runs.append(run)
        return len(run.evaluations)

    def close(self) -> None:
        self.closed = True


def follow(outputs: Path, tracker: Kept, *steps: Callable[[], object]) -> list[float]:
    """Follow the runs, with a step between every two looks and Ctrl-C after the last; how long it waited between."""
    pauses, left = [], iter(steps)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        step = next(left, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    loop.follow([outputs], tracker, every=10, sleep=sleep)
    assert tracker.closed
    return pauses


def test_what_is_new_or_has_changed_is_sent(
    outputs: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs.mkdir()
    tracker = Kept()

    def sent() -> list[tuple[str, str, int]]:
        found = [(run.id, run.state, len(run.evaluations)) for run in tracker.runs]
        tracker.runs.clear()
        return found

    def replace(**changed: object) -> None:
        shutil.rmtree(outputs / "demo" / "a")
        write_run("a", {"valid_ppl": [2.0, 1.0]}, **changed)

    seen: list[list[tuple[str, str, int]]] = []
    steps = [
        lambda: write_run("a", {"valid_ppl": [2.0]}),
        lambda: seen.append(sent()),
        lambda: replace(),
        lambda: (seen.append(sent()), write_run("b", None, folder="other")),
        lambda: seen.append(sent()),
    ]
    assert follow(outputs, tracker, *steps) == [10] * 6
    assert seen == [[("a", "finished", 1)], [("a", "finished", 2)], [("b", "finished", 0)]]
    out, err = capsys.readouterr()
    assert err == "warning: no runs yet; waiting for the first\n"
    assert [line.partition(" ")[2] for line in out.splitlines()] == ["evaluations sent: 1", "evaluations sent: 2"]


def test_a_tracker_out_of_reach_is_tried_again(
    outputs: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcd":
        write_run(name, {"valid_ppl": [2.0]})
    tracker = Kept()
    tracker.away = True
    asked = [0]

    def back() -> None:
        tracker.away = False
        tracker.refused = {"c"}

    def live() -> None:
        write_run("e", {"valid_ppl": [2.0]})

    def note(then: Callable[[], object] = lambda: None) -> None:
        asked.append(tracker.asked)
        then()

    changes = {135: back, 166: live}
    steps = [lambda number=number: note(changes.get(number, lambda: None)) for number in range(230)]
    assert {*follow(outputs, tracker, *steps)} == {10}
    attempts = {10 * look: new - old for look, (old, new) in enumerate(itertools.pairwise(asked)) if new > old}
    away = {0: 2, 10: 2, **dict.fromkeys((20, 60, 140, 300, 600, 900, 1200), 2)}  # 0 and 10: each for the first time
    assert attempts == {**away, 1500: 4, 1670: 1, 1800: 1, 2100: 1}  # the one that is refused keeps no other waiting
    assert sorted(run.id for run in tracker.runs) == ["a", "b", "d", "e"]
    assert capsys.readouterr().err == f"warning: {outputs}/demo/a: ConnectionError: no way for a; it is tried again\n"


def test_what_cannot_be_read_is_named_and_the_rest_is_sent(
    outputs: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcde":
        write_run(name, {"valid_ppl": [2.0]})
    (outputs / "demo" / "a" / schema.METRICS).write_bytes(b"damaged")
    (outputs / "demo" / "b" / schema.OPTIONS).unlink()
    write_run("f", None, schema.RUNNING)
    (outputs / "demo" / "f" / schema.OPTIONS).unlink()
    shutil.copytree(outputs / "demo" / "c", outputs / "zcopy" / "c")
    tracker = Kept()
    loop.follow([outputs], tracker, once=True)
    assert [run.id for run in tracker.runs] == ["c", "d", "e"]
    warnings = capsys.readouterr().err.splitlines()
    starts = [f"{outputs}/demo/a/metrics.parquet: ", f"{outputs}/demo/b: none of 1 runs can be read: "]
    starts += [f"{outputs}/demo/f: none of 1 runs can be read: "]  # killed before it began
    starts += [f"{outputs}/zcopy/c: experiment_id c is also in {outputs}/demo/c, which is shown; run skipped"]
    assert all(line.startswith(f"warning: {start}") for line, start in zip(warnings, starts, strict=True))


def test_once_ends_with_what_could_not_be_sent(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [2.0]})
    tracker = Kept()
    tracker.away = True
    with pytest.raises(AnalysisError, match=r"^not everything was sent: .*/a: ConnectionError: no way for a; the same"):
        loop.follow([outputs], tracker, once=True)
    assert tracker.closed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "board"], "to (=board) must be one of tensorboard, mlflow, wandb; did you mean tensorboard?"),
        (["--to", "tensorboard", "--every", "0"], "every (=0.0) must be a positive number of seconds"),
        (["--to", "tensorboard", "--every", "nan"], "every (=nan) must be a positive number of seconds"),
        (["missing", "--to", "tensorboard"], "missing: does not exist"),
        (["--to", "tensorboard", "--once"], "no run directories here or below"),
        (["--to", "tensorboard", "--into", "/proc/x"], "/proc/x cannot be written"),
    ],
)
def test_bad_input_is_one_line(
    outputs: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs.mkdir()
    assert main(["follow", str(outputs), *arguments]) == 1
    out, err = capsys.readouterr()
    assert (err.startswith("error: "), err.count("\n"), message in err) == (True, 1, True)
    assert out == "" or "--once" in arguments


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_with_what_to_install(
    sweep: Path, tracker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, f"analysis.following.{tracker}", None)
    commands = [["follow", str(sweep), "--to", tracker], ["export", str(sweep)]]
    for command in commands[: 1 + (tracker == "tensorboard")]:
        assert main(command) == 1
        missing = f"error: {tracker} needs the packages of {tracker}: pip install '.[{tracker}]' in the clone ("
        assert capsys.readouterr().err.startswith(missing)
    assert not (sweep / "export").exists()


def test_it_loads_no_torch(outputs: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [2.0]})
    code = "import sys; from analysis.__main__ import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "follow", str(outputs), "--to", "tensorboard", "--once"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert [*(outputs / "tensorboard" / "demo").glob("a/events*")]
