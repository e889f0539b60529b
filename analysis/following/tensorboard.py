"""Runs as TensorBoard event files, one a run, which are only ever appended to: TensorBoard reads them as they grow."""

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from atbptt.errors import AnalysisError, printable
from atbptt.monitor import Reader
from atbptt.runs.schema import FINISHED
from atbptt.system import StorageError, check_inside, cut_name, locks, read_file

from ..loading import Results
from .runs import Evaluation, Run, labels_of, snapshots

EVENTS = "events.out.tfevents.0.atbptt"
LOCK = ".lock"
HEAD, CHECK = struct.Struct("<Q"), struct.Struct("<I")  # of a record: its length, and a checksum behind each part
HPARAMS = "_hparams_"  # begins the tags that cannot be written again: TensorBoard keeps the first
LABEL_BYTES = 160  # names of files have at most 255


@dataclass
class _Content:
    """What an event file holds: by step the scalars, by tag what else is shown last, and where its whole part ends."""

    scalars: dict[int, bytes] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)
    end: int = 0

    def purge(self, step: int) -> None:
        """Forget what is shown from a step on; TensorBoard keeps hyperparameters."""
        self.scalars = {at: event for at, event in self.scalars.items() if at < step}
        self.others = {tag: summary for tag, summary in self.others.items() if tag.startswith(HPARAMS)}


class TensorBoard:
    """Writes `<folder>/<experiment>/<label> <experiment_id>/` with an event file for each run.

    An event has all scalars of an evaluation, in 32 bits, at `step`. Its wall time is the training time, in seconds
    from 1970, so that the axis RELATIVE shows it. Options stand under HPARAMS; state, notes and tags under TEXT.
    Evaluations that the run has dropped or changed are purged. The same runs give the same bytes.

    Raises:
        StorageError: a folder that cannot be written.
        AnalysisError: another process writes there.
    """

    def __init__(self, folder: Path) -> None:
        self.shown_by = f'tensorboard --logdir "{folder}"'
        self._folder = folder
        self._folders: dict[str, dict[str, str]] = {}  # by experiment, the folder of each run
        self._known: dict[Path, _Content] = {}  # files of runs that go on
        self._held = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locks.hold(folder / LOCK))
        except locks.LockedError as error:
            raise AnalysisError(f"{folder}: another process writes there") from error
        except OSError as error:
            raise StorageError(f"{folder} cannot be written: {error.strerror}") from error

    def record(self, run: Run) -> int:
        path = self.path(run)
        content = self._known.pop(path, None) or _read(path)
        scalars = {each.step: _scalars(each) for each in run.evaluations}
        other = [step for step, event in content.scalars.items() if scalars.get(step) != event]
        events = [] if content.end else [Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString()]
        if other:
            start = SessionLog(status=SessionLog.START)
            events.append(Event(wall_time=0.0, step=min(other), session_log=start).SerializeToString())
            content.purge(min(other))
        new = [event for step, event in scalars.items() if step not in content.scalars]
        last = run.evaluations[-1:] or (Evaluation(0, 0.0, {}),)
        events += new
        for name, summary in _others(run).items():
            serialised = summary.SerializeToString()
            if content.others.get(name) != serialised and not (name in content.others and name.startswith(HPARAMS)):
                content.others[name] = serialised
                events.append(Event(wall_time=last[0].seconds, step=last[0].step, summary=summary).SerializeToString())
        content.scalars |= scalars
        content.end += _append(path, events)
        if not run.ended:
            self._known[path] = content
        return len(new)

    def close(self) -> None:
        self._held.close()

    def path(self, run: Run) -> Path:
        """Of the run's file: the folder keeps the label that it got at first."""
        experiment = _name(run.experiment)
        if experiment not in self._folders:
            top = self._folder / experiment
            names = os.listdir(top) if top.is_dir() else []
            self._folders[experiment] = {name.rpartition(" ")[2]: name for name in names}
        name = f"{_name(run.label)} {run.id}".strip()
        found = self._folder / experiment / self._folders[experiment].setdefault(run.id, name) / EVENTS
        check_inside(found, self._folder)
        return found


def write_events(results: Results, folder: Path) -> None:
    """Write an event file for each run; those of runs that are no longer there are deleted."""
    try:
        labels = labels_of(Reader(results.paths).read())
    except AnalysisError:  # there are only compacted folders
        labels = {}
    with closing(TensorBoard(folder)) as tracker:
        written = set()
        for run in snapshots(results, labels):
            tracker.record(run)
            written.add(tracker.path(run))
        for path in {*folder.rglob(EVENTS)} - written:  # which follows no links
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def _name(text: str) -> str:
    return cut_name(printable(text.replace("/", "_").replace("\n", " ")).lstrip("."), LABEL_BYTES)


def _scalars(evaluation: Evaluation) -> bytes:
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in evaluation.values.items()]
    event = Event(wall_time=evaluation.seconds, step=evaluation.step, summary=Summary(value=values))
    serialised: bytes = event.SerializeToString()
    return serialised


def _others(run: Run) -> dict[str, Summary]:
    """Summaries without scalars by the tag of their value."""
    state = f"{run.state}: {run.why}" if run.why else run.state
    found = [hparams_pb(run.options, trial_id=f"{run.label} {run.id}".strip(), start_time_secs=0.0)]
    if run.state == FINISHED:  # the first status counts: one that failed may be tried again
        ended = HParamsPluginData(session_end_info=SessionEndInfo(status=Status.STATUS_SUCCESS))
        value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(ended))
        found.append(Summary(value=[value]))
    texts = {"state": state, "notes": run.notes, "tags": ", ".join(run.tags)}
    found += [text_pb(f"run/{name}", text) for name, text in texts.items() if text]
    return {summary.value[0].tag: summary for summary in found}


def _read(path: Path) -> _Content:
    """What a file holds, which is cut where its whole part ends: a killed process leaves part of a record.

    So is one that somebody else has continued with records that are no events.
    """
    content = _Content()
    stored = read_file(path) if path.exists() else b""
    for record, end in _records(stored):
        try:
            event = Event.FromString(record)
            first = event.summary.value[0] if event.HasField("summary") else None
        except Exception:  # of protobuf, or there is no value
            break
        content.end = end
        if event.HasField("session_log"):
            content.purge(event.step)
        elif first is not None and first.HasField("simple_value"):
            content.scalars[event.step] = record
        elif first is not None:
            content.others[first.tag] = event.summary.SerializeToString()
    if content.end < len(stored):
        os.truncate(path, content.end)
    return content


def _records(stored: bytes) -> Iterator[tuple[bytes, int]]:
    """The whole records at the beginning of a file, and where each ends."""
    at = 0
    while len(head := stored[at : at + HEAD.size]) == HEAD.size:
        start = at + HEAD.size + CHECK.size
        end = start + HEAD.unpack(head)[0]
        at = end + CHECK.size
        # Of what is not the last, the checksum of the length is enough; checksums are slow in Python.
        parts = [(start, head)] if at < len(stored) else [(start, head), (at, stored[start:end])]
        if any(stored[place - CHECK.size : place] != CHECK.pack(masked_crc32c(part)) for place, part in parts):
            return
        yield stored[start:end], at


def _append(path: Path, events: list[bytes]) -> int:
    """Write records at the end of a file, and flush it to disk; returns their length in bytes."""
    if events:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event)
            writer.flush()
            os.fsync(file.fileno())
    return sum(HEAD.size + CHECK.size + len(event) + CHECK.size for event in events)
