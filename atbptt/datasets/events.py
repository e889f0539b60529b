"""Events: predict what comes next, and when (marked temporal point processes)."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atbptt.datasets.reading import checked, refuse, require_files, text_lines
from atbptt.datasets.task import SPLITS, cut, cut_note
from atbptt.errors import require
from atbptt.models import cross_entropy, log_density, mean_interval
from atbptt.windows import Stream

LARGEST_EVENT = 10**7  # float32 has no more whole numbers than that
LONGEST_INTERVAL = 1e9  # longer ones overflow the norms of gradients in float32: choose a larger unit of time
EVENT = re.compile(f"[0-9]{{1,{len(str(LARGEST_EVENT))}}}")
SHOWN_LETTERS = 20  # of a word in an error


@dataclass(frozen=True)
class EventStream(Stream):
    """Streams of events, stored as three numbers a step.

    Inputs (T, B, 3) are the event (from 0), 1 at the first event of a sequence and the interval before the event;
    targets (T, B, 2) are the next event and the interval before it.
    """

    types: int  # number of event types E

    def present(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (T, B, E + 2) with the event one-hot, and targets (T, B, 2)."""
        presented = inputs.new_zeros(*inputs.shape[:-1], self.types + 2)
        presented.scatter_(-1, inputs[..., :1].long(), 1.0)
        presented[..., self.types :] = inputs[..., 1:]
        return presented, targets


class Events:
    """Event sequences from two text files a split, `event-NAME.txt` and `time-NAME.txt`, one sequence a line.

    Events are numbered from 1; times do not decrease. Each event of a sequence predicts the next one and the interval
    until it. All sequences together are cut in `batch_size` contiguous streams (the remainder is dropped). Unless
    `resets`, the state carries over from one sequence to the next; the first event of each is marked.

    Outputs are (T, B, E + 2): logits of the next event, log of the rate right after the present one, and the
    growth w of the log rate (see `point_process`). The loss is that of the event plus that of the interval, in nats.

    Metrics: `nll`, the mean loss; `event_loss` and `time_loss`, its parts; `event_error`, the share of events that
    are not the likeliest one; `time_rmse`, root mean squared error of the mean interval, up to the longest interval
    of the training split, in the units of the times.

    Arguments:
        path: the folder of the files.
        batch_size: streams B.
        train, valid, test: NAME of each split; `valid` null takes the first half of the test sequences.
        event_types: E; null takes the largest event number of the three splits.
        resets: each sequence begins in the model's first state.
    """

    metric_names: tuple[str, ...] = ("nll", "event_loss", "time_loss", "event_error", "time_rmse")

    def __init__(
        self,
        path: str,
        batch_size: int,
        train: str = "train",
        valid: str | None = "valid",
        test: str = "test",
        event_types: int | None = None,
        resets: bool = False,
    ) -> None:
        require(batch_size >= 1, "batch_size", batch_size, "must be at least 1")
        folder = Path(path)
        names = {"train": train, "valid": valid, "test": test}
        files = {split: _pair(folder, name) for split, name in names.items() if name is not None}
        require_files(folder, [file.name for pair in files.values() for file in pair])
        sequences = {split: _read(*pair) for split, pair in files.items()}
        if valid is None:
            whole, half = sequences["test"], len(sequences["test"]) // 2
            rule = f"takes half of the test sequences, and {files['test'][0].name} has only {len(whole)}"
            require(half > 0, "valid", valid, rule)
            sequences["valid"], sequences["test"] = whole[:half], whole[half:]
        largest = max(int(events.max()) for found in sequences.values() for events, _ in found if len(events)) + 1
        types = largest if event_types is None else event_types
        require(types >= largest, "event_types", types, f"must be at least the largest event of {path} (={largest})")
        self.input_size = self.output_size = types + 2
        steps = {split: _steps(sequences[split]) for split in SPLITS}
        self.train, self.valid, self.test = (
            _stream(*steps[split], types, batch_size, split, resets) for split in SPLITS
        )
        self.longest_interval = float(self.train.targets[..., 1].max())
        rule = f"must have intervals greater than 0 in {files['train'][1].name}"
        require(self.longest_interval > 0, "path", path, rule)
        short = {split: sum(len(events) < 2 for events, _ in sequences[split]) for split in SPLITS}
        self.notes = (
            f"{types} event types",
            *(cut_note(split, "events to predict", len(steps[split][0]), batch_size) for split in SPLITS),
            *(f"{split}: sequences of less than 2 events, left out: {n}" for split, n in short.items() if n),
        )

    @staticmethod
    def data_files(arguments: Mapping[str, Any]) -> list[Path]:
        names = [arguments[split] for split in SPLITS]
        return checked(file for name in names if name is not None for file in _pair(Path(arguments["path"]), name))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _event_loss(outputs, targets) + _time_loss(outputs, targets)

    def measures(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {
            "event_loss": _event_loss(outputs, targets),
            "time_loss": _time_loss(outputs, targets),
            "event_error": (outputs[..., :-2].argmax(dim=-1) != targets[..., 0]).double(),
            "squared_time_error": (self._mean_interval(outputs) - targets[..., 1]).square(),
        }

    def _mean_interval(self, outputs: Tensor) -> Tensor:
        return mean_interval(outputs[..., -2].double(), outputs[..., -1].double(), self.longest_interval)

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        return {
            "nll": means["event_loss"] + means["time_loss"],
            **{name: means[name] for name in ("event_loss", "time_loss", "event_error")},
            "time_rmse": math.sqrt(means["squared_time_error"]),
        }

    def predictions(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """`event`: the likeliest one, from 0; `interval`: the mean interval, as in `time_rmse`."""
        return {
            "event": (outputs[..., :-2].argmax(dim=-1), targets[..., 0]),
            "interval": (self._mean_interval(outputs), targets[..., 1]),
        }


def _event_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs[..., :-2], targets[..., 0].long())


def _time_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return -log_density(outputs[..., -2], outputs[..., -1], targets[..., 1])


EventSequence = tuple[np.ndarray, np.ndarray]  # events from 0, times


def _stream(
    inputs: np.ndarray, targets: np.ndarray, types: int, batch_size: int, split: str, resets: bool
) -> EventStream:
    parts = cut((inputs, targets), batch_size, f"{len(inputs):,} steps of the {split} split")
    stored = [torch.from_numpy(part.astype(np.float32)) for part in parts]
    return EventStream(stored[0], stored[1], types, resets=stored[0][..., 1] == 1 if resets else None)


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"event-{name}.txt", folder / f"time-{name}.txt"


def _steps(sequences: list[EventSequence]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, 3) and targets (N, 2) of all sequences, one after another."""
    inputs, targets = [np.empty((0, 3))], [np.empty((0, 2))]
    for events, times in sequences:
        intervals = np.diff(times, prepend=times[:1])
        mark = np.arange(len(events)) == 0
        inputs.append(np.column_stack([events, mark, intervals])[:-1])
        targets.append(np.column_stack([events, intervals])[1:])
    return np.concatenate(inputs), np.concatenate(targets)


def _read(event_file: Path, time_file: Path) -> list[EventSequence]:
    lines = {file: list(text_lines(file)) for file in (event_file, time_file)}
    for found in lines.values():
        while found and not found[-1].strip():
            found.pop()
    shorter, longer = sorted(lines, key=lambda file: len(lines[file]))
    end = len(lines[shorter])
    if end < len(lines[longer]):
        refuse(longer, end + 1, f"has no line beside it in {shorter.name}, which ends after {end}")
    sequences = []
    for number, (event_line, time_line) in enumerate(zip(*lines.values(), strict=True), 1):
        events, times = _events(event_file, number, event_line), _times(time_file, number, time_line)
        if len(events) != len(times):
            refuse(event_file, number, f"has {len(events)} events, and the line of {time_file.name} {len(times)} times")
        sequences.append((events, times))
    some = any(len(events) > 1 for events, _ in sequences)
    require(some, "path", str(event_file), "must hold a sequence of at least 2 events, and there is none")
    return sequences


def _events(file: Path, number: int, line: str) -> np.ndarray:
    words = line.split()
    fine = [EVENT.fullmatch(word) is not None and 1 <= int(word) <= LARGEST_EVENT for word in words]
    _require_words(fine, file, number, words, "event", f"events are whole numbers from 1 to {LARGEST_EVENT}")
    return np.array([int(word) - 1 for word in words], dtype=np.int64)


def _times(file: Path, number: int, line: str) -> np.ndarray:
    words = line.split()
    _require_words(map(_is_number, words), file, number, words, "time", "it is no number")
    times = np.array([float(word) for word in words])
    _require_words(np.isfinite(times), file, number, words, "time", "times must be finite")
    intervals = np.diff(times, prepend=times[:1])
    _require_words(intervals >= 0, file, number, words, "time", "times must not decrease")
    rule = f"intervals must not exceed {LONGEST_INTERVAL}"
    _require_words(intervals <= LONGEST_INTERVAL, file, number, words, "time", rule)
    return times


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return word.isascii() and "_" not in word  # which Python would read


def _require_words(fine: Iterable[bool], file: Path, line: int, words: list[str], kind: str, rule: str) -> None:
    """Refuse the first word of a line that is not fine."""
    place = next((place for place, holds in enumerate(fine) if not holds), None)
    if place is None:
        return
    shown = [word if len(word) <= SHOWN_LETTERS else f"{word[:SHOWN_LETTERS]}..." for word in words]
    after = f" after {shown[place - 1]}" if place else ""
    refuse(file, line, f"has {shown[place]} as {kind} {place + 1}{after}: {rule}")
