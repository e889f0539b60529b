"""What a tracker gets to see of a run, and what of that it does not have yet."""

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from atbptt.monitor import Report
from atbptt.runs import RunStatus
from atbptt.runs.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED

from ..loading import ID, Results, own_id

CLOCKS = ("epoch", "adaptive_epoch", "updates", "train_seconds", "compute_seconds")
# Trackers show what stands before the slash of a tag as a section, in alphabetical order. By a metric's first word:
SECTIONS = {
    **dict.fromkeys(("train", "valid", "test"), "evaluation"),
    **dict.fromkeys(("log", "gradient"), "gradient"),
    **dict.fromkeys(("steps", "processor"), "time"),
    "peak": "memory",
    **dict.fromkeys(("lr", "grad", DIVERGED), "training"),
    **dict.fromkeys(("K", "mean"), "truncation"),
}
# These may differ in an evaluation that is repeated, or come after it; everything else has the same bits.
VARYING = ("time/", "memory/", f"training/{DIVERGED}")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run.

    Attributes:
        step: training steps of the stream.
        seconds: of training until then.
        values: by tag, the mean over replicates of each metric, NaN if one is, and the clocks.
    """

    step: int
    seconds: float
    values: Mapping[str, float]

    @cached_property
    def digest(self) -> int:
        """Of all values that are the same when the evaluation is repeated."""
        lasting = {tag: value for tag, value in self.values.items() if not tag.startswith(VARYING)}
        return zlib.crc32(json.dumps(lasting, sort_keys=True).encode())


@dataclass(frozen=True)
class Run:
    """A run as it is now.

    Attributes:
        id: its `experiment_id`.
        experiment: the option `name`.
        label: the overrides that tell it from the sweep's other runs; empty if no sweep is recorded.
        options: what it has set, without its name, notes and tags; infinity and NaN as texts.
        notes: of the user.
        tags: of the user.
        state: as `analysis status` shows it, or `diverged`.
        why: in one line, why it failed, was interrupted or is stale.
        evaluations: by step.
    """

    id: str
    experiment: str
    label: str
    options: Mapping[str, Any]
    notes: str
    tags: tuple[str, ...]
    state: str
    why: str
    evaluations: tuple[Evaluation, ...]

    @property
    def title(self) -> str:
        return self.label or self.id

    @property
    def ended(self) -> bool:
        return self.state in (FINISHED, FAILED, INTERRUPTED, DIVERGED)

    @property
    def digest(self) -> int:
        """Of everything but the evaluations."""
        rest = [self.label, self.options, self.notes, self.tags, self.state, self.why]
        return zlib.crc32(json.dumps(rest).encode())


class Tracker(Protocol):
    """Where runs are shown. Any of its methods may raise the errors of its library."""

    shown_by: str  # in one line, how to look at it

    def record(self, run: Run) -> int:
        """Bring what is shown of the run up to date; returns the number of evaluations that it did not have."""

    def close(self) -> None:
        """End what is still going on."""


@dataclass(frozen=True)
class Sent:
    """What a tracker that cannot delete has of a run: the number of its record, and the last evaluation there."""

    attempt: int = 1
    step: int = -1
    digest: int = 0

    def missing(self, run: Run) -> tuple[int, tuple[Evaluation, ...]]:
        """The record to send to, and the evaluations that it lacks.

        A run that continues from a checkpoint repeats evaluations, with the same values: these are not sent again. If
        the last one that was sent has other values now, as with other code, all go to a new record.
        """
        now = next((each.digest for each in run.evaluations if each.step == self.step), self.digest)
        if now != self.digest:
            return self.attempt + 1, run.evaluations
        return self.attempt, tuple(each for each in run.evaluations if each.step > self.step)


def labels_of(report: Report) -> dict[Path, str]:
    """The label of each run that a sweep has planned, by directory; of several sweeps, the latest."""
    runs = [run for sweep in report.sweeps for run in sweep.runs]
    return {Path(os.path.normpath(run.last.directory)): run.label for run in runs}


def snapshots(results: Results, labels: Mapping[Path, str]) -> Iterator[Run]:
    """The runs as they are now; `labels` by directory (see `labels_of`)."""
    rows = results.frame.groupby(ID, sort=False)
    for options, status in zip(results.options.to_dict("records"), results.statuses, strict=True):
        shown = options.pop(ID)
        own = {str(name): value for name, value in options.items() if not pd.isna(value)}
        found = rows.get_group(shown) if shown in rows.groups else results.frame.iloc[:0]
        yield _run(own_id(shown), labels.get(status.directory, ""), own, status, found)


def _run(identity: str, label: str, options: dict[str, Any], status: RunStatus, rows: pd.DataFrame) -> Run:
    diverged = status.state == FAILED and (rows["metric"] == DIVERGED).any()
    tags = options.pop("tags", "")
    return Run(
        id=identity,
        experiment=str(options.pop("name", "runs")),
        label=label,
        notes=str(options.pop("notes", "")),
        tags=tuple(tags.split(", ")) if tags else (),
        options={name: _finite(value) for name, value in options.items()},
        state=DIVERGED if diverged else status.state,
        why=status.why or "",
        evaluations=tuple(_evaluations(rows)),
    )


def _finite(option: Any) -> Any:
    return str(option) if isinstance(option, float) and not math.isfinite(option) else option


def _evaluations(rows: pd.DataFrame) -> Iterator[Evaluation]:
    found: dict[int, tuple[dict[str, float], dict[str, list[float]]]] = {}
    columns = [rows[name].tolist() for name in ("step", "metric", "value", *CLOCKS)]
    for step, metric, value, *clocks in zip(*columns, strict=True):
        read = {f"time/{name}": float(clock) for name, clock in zip(CLOCKS, clocks, strict=True)}
        found.setdefault(step, (read, {}))[1].setdefault(tag(metric), []).append(value)
    for step, (read, metrics) in sorted(found.items()):
        means = {name: sum(values) / len(values) for name, values in metrics.items()}
        yield Evaluation(step, read["time/train_seconds"], {**means, **read})


def tag(metric: str) -> str:
    """A metric's name behind its section: `evaluation/valid_ppl`, `truncation/K_0.9`."""
    return f"{SECTIONS.get(metric.partition('_')[0], 'other')}/{metric}"
