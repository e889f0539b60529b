import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

import analysis
from analysis.following.loop import Follower
from analysis.following.runs import Evaluation, Run
from analysis.following.tensorboard import EVENTS, TensorBoard
from atbptt.errors import AnalysisError
from atbptt.system import StorageError, locks
from tests.conftest import TINY
from tests.helpers.launched import RUN, Sweep

PPL = "evaluation/valid_ppl"


def run(*losses: float, state: str = "running", **changed: object) -> Run:
    found = tuple(Evaluation(10 * n, n / 2, {PPL: loss}) for n, loss in enumerate(losses))
    made = Run("0a1b", "demo", "path=/data K=2", {"lr": 0.5, "model": "lstm"}, "", (), state, "", found)
    return replace(made, **changed)


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def scalars(folder: Path, tag: str = PPL) -> dict[int, float]:
    stored = events(folder)
    found = stored.Scalars(tag) if tag in stored.Tags()["scalars"] else []
    assert len({event.step for event in found}) == len(found)
    return {event.step: event.value for event in found}


def texts(folder: Path, tag: str) -> list[str]:
    return [event.tensor_proto.string_val[0].decode() for event in events(folder).Tensors(f"run/{tag}")]


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[Run], int]:
    """Records one run with a new process's knowledge: none."""

    def record(one: Run) -> int:
        tracker = TensorBoard(tmp_path)
        try:
            return tracker.record(one)
        finally:
            tracker.close()

    return record


def test_a_file_grows_by_what_is_new(recorded: Callable[[Run], int], tmp_path: Path) -> None:
    assert recorded(run(3.0)) == 1
    folder = tmp_path / "demo" / "path=_data K=2 0a1b"
    before = (folder / EVENTS).read_bytes()
    assert recorded(run(3.0)) == 0
    assert (folder / EVENTS).read_bytes() == before
    assert recorded(run(3.0, 2.0, math.nan, label="other", notes="why", tags=("a", "b"), state="failed")) == 2
    assert (folder / EVENTS).read_bytes().startswith(before)
    assert str(scalars(folder)) == "{0: 3.0, 10: 2.0, 20: nan}"
    assert [texts(folder, tag) for tag in ("state", "notes", "tags")] == [["running", "failed"], ["why"], ["a, b"]]
    stored = events(folder).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model" in stored
    assert b"lstm" in stored


@pytest.mark.parametrize("restarted", [True, False])
def test_evaluations_that_a_resume_dropped_are_purged(tmp_path: Path, restarted: bool) -> None:
    tracker = TensorBoard(tmp_path)
    for losses, new in (((3.0, 2.0, 1.0), 3), ((3.0, 2.0), 0), ((3.0, 2.5, 1.5, 1.0), 3)):
        assert tracker.record(run(*losses)) == new
        if restarted:
            tracker.close()
            tracker = TensorBoard(tmp_path)
        folder = tmp_path / "demo" / "path=_data K=2 0a1b"
        assert scalars(folder) == {10 * n: loss for n, loss in enumerate(losses)}
        assert texts(folder, "state")[-1] == "running"
    tracker.close()


def framed(event: bytes) -> bytes:
    """As a record, with its checksums."""
    file = io.BytesIO()
    RecordWriter(file).write(event)
    return file.getvalue()


@pytest.mark.parametrize(
    "left",
    [b"\x05", bytes(50), None, framed(b"\xff"), framed(Event(summary=Summary()).SerializeToString())],
    ids=["part", "zeros", "cut", "no event", "nothing shown"],
)
def test_what_a_killed_process_or_another_program_left_is_replaced(
    recorded: Callable[[Run], int], tmp_path: Path, left: bytes | None
) -> None:
    recorded(run(3.0, 2.0))
    path = tmp_path / "demo" / "path=_data K=2 0a1b" / EVENTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] if left is None else whole + left)
    recorded(run(3.0, 2.0))
    assert path.read_bytes() == whole
    recorded(run(3.0, 2.0, 1.0))
    assert scalars(path.parent) == {0: 3.0, 10: 2.0, 20: 1.0}


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^/proc/x cannot be written: "):
        TensorBoard(Path("/proc/x"))
    with locks.hold(tmp_path / ".lock"), pytest.raises(AnalysisError, match="another process writes there"):
        TensorBoard(tmp_path)


@pytest.mark.slow
def test_a_sweep_is_followed_while_it_runs_and_after_a_kill(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, *TINY, "epochs=10", "init=0")
    sweep.output.mkdir()
    tracker = TensorBoard(tmp_path / "events")
    follower = Follower([sweep.output], tracker)

    def shown() -> dict[str, dict[int, float]]:
        if [*sweep.output.glob("*/*/status.json")]:
            assert follower.look()[1] == ""
        folders = (tmp_path / "events").glob("*/* *")
        return {each.name.rpartition(" ")[2]: scalars(each, "evaluation/valid_loss") for each in folders}

    def stored() -> dict[str, dict[int, float]]:
        rows = analysis.load_metrics(sweep.output, "valid_loss").astype({"value": "float32"}).groupby("experiment_id")
        return {str(name): dict(zip(of["step"], of["value"], strict=True)) for name, of in rows}

    try:
        sweep.launch()
        sweep.until(lambda: any(len(of) > 2 for of in shown().values()), "evaluations of a running run")
        assert sweep.ended() is None
        for pid in sweep.processes().get(RUN, []):
            assert sweep.kill(pid)
        sweep.wait()
        assert any(status["state"] == "failed" for status in sweep.statuses().values())
        sweep.launch()
        sweep.until(lambda: shown() and sweep.ended() is not None, "the end")
    finally:
        sweep.clear()
    found = shown()
    assert found == stored()
    assert [len(of) for of in found.values()] == [11]
    tracker.close()
    again = Follower([sweep.output], tracker := TensorBoard(tmp_path / "events"))
    assert again.look() == (0, "")
    tracker.close()
    folder = next((tmp_path / "events").glob("*/* *"))
    assert texts(folder, "state")[-1] == "finished"
    assert pd.Series(scalars(folder, "time/epoch")).max() == 10
