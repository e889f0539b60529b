"""The table of results, in the terminal, as Markdown and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from atbptt.system import Console, write_text
from benchmarks.timing import Measured

HEADINGS = ("what", "size", "time", "against", "ratio", "goal", "time / floor", "peak memory")
KEPT = "freed memory kept"  # a baseline in a process with our settings, see aside.as_ours
WIDTH = 180  # characters of the widest row


@dataclass(frozen=True)
class Goal:
    """A bound for a ratio, or for a time in seconds."""

    bound: Literal["at least", "at most"]
    value: float

    def met(self, value: float) -> bool:
        """Whether a ratio or a time meets the goal."""
        return value >= self.value if self.bound == "at least" else value <= self.value

    def __str__(self) -> str:
        return f"{self.bound} {self.value:g}"


@dataclass(frozen=True)
class Comparison:
    """The other side of a row's ratio.

    Attributes:
        name: of the other side.
        measured: its time and memory.
        ratio: `its / ours` (how many times faster ours is) or `ours / its` (how many times slower).
        ours: name of the row's own side.
        goal: of the ratio, or None.
    """

    name: str
    measured: Measured
    ratio: Literal["its / ours", "ours / its"]
    ours: str = "ours"
    goal: Goal | None = None

    def value(self, ours: Measured) -> float:
        """The ratio of the medians."""
        its, own = self.measured.median, ours.median
        return its / own if self.ratio == "its / ours" else own / its

    @property
    def ratio_of(self) -> str:
        """The ratio in words."""
        return f"{self.name} / {self.ours}" if self.ratio == "its / ours" else f"{self.ours} / {self.name}"


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        what, size: name and size of the measured call.
        measured: times for one `unit`, and memory.
        unit: `a window`, `a position and lag`, ...
        against: the comparison, or None.
        floor_seconds: time of the unavoidable arithmetic for the same unit.
        limit: goal for the time itself, in seconds, or None.
    """

    what: str
    size: str
    measured: Measured
    unit: str
    against: Comparison | None = None
    floor_seconds: float | None = None
    limit: Goal | None = None

    def cells(self) -> list[str]:
        """The text of each column."""
        against = self.against
        cells = [self.what, self.size, f"{duration(self.measured.median)} {self.unit}"]
        if against is None:
            cells += ["", "", ""]
        else:
            ratio = against.value(self.measured)
            goal = "" if against.goal is None else f"{against.goal}: {'met' if against.goal.met(ratio) else 'missed'}"
            cells += [duration(against.measured.median), f"{ratio:.3g} = {against.ratio_of}", goal]
        if self.limit is not None:
            cells[-1] = f"{self.limit} s: {'met' if self.limit.met(self.measured.median) else 'missed'}"
        cells.append("" if self.floor_seconds is None else f"{self.measured.median / self.floor_seconds:.3g}")
        cells.append(megabytes(self.measured.memory_bytes))
        if against is not None and against.measured.memory_bytes is not None:
            cells[-1] += f", against {megabytes(against.measured.memory_bytes)}"
        return cells

    def record(self) -> dict[str, Any]:
        """The row for JSON, with unrounded numbers."""
        return {
            "what": self.what,
            "size": self.size,
            "unit": self.unit,
            **_numbers(self.measured),
            "floor_seconds": self.floor_seconds,
            "over_floor": None if self.floor_seconds is None else self.measured.median / self.floor_seconds,
            "limit": None if self.limit is None else str(self.limit),
            "against": None if self.against is None else self._compared(self.against),
        }

    def _compared(self, against: Comparison) -> dict[str, Any]:
        ratio = against.value(self.measured)
        goal = against.goal
        return {
            "name": against.name,
            **_numbers(against.measured),
            "ratio": ratio,
            "ratio_of": against.ratio_of,
            "goal": None if goal is None else str(goal),
            "met": None if goal is None else goal.met(ratio),
        }


def _numbers(measured: Measured) -> dict[str, Any]:
    return {
        "median_seconds": measured.median,
        "seconds": list(measured.seconds),
        "memory_bytes": measured.memory_bytes,
    }


def duration(seconds: float) -> str:
    """A time with three digits and a unit: `56 ms`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def megabytes(count: int | None) -> str:
    """Bytes as `12 MB`, or an empty text for None."""
    return "" if count is None else f"{count / 1e6:.0f} MB"


def one_line(row: Row) -> str:
    """A row as a line of progress."""
    what, size, time, against, ratio, goal, *_ = row.cells()
    compared = f" against {against}: {ratio}" if against else ""
    return f"{what}, {size}: {time}{compared}{f', goal {goal}' if goal else ''}"


def print_table(rows: Sequence[Row], machine: dict[str, str], notes: Sequence[str], console: Console) -> None:
    """Print the table and the machine."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = row.cells()
        table.add_row(*cells, style="red" if cells[HEADINGS.index("goal")].endswith("missed") else "")
    console.print(table)
    for line in (*_described(machine), *notes):
        console.print(line, soft_wrap=True)


def markdown(rows: Sequence[Row], machine: dict[str, str], notes: Sequence[str]) -> str:
    """The table and the machine in Markdown."""
    lines = [_markdown_row(HEADINGS), _markdown_row(["---"] * len(HEADINGS))]
    lines += [_markdown_row(row.cells()) for row in rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in (*_described(machine), *notes)), ""])


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _described(machine: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in machine.items()]


def save(folder: Path, rows: Sequence[Row], machine: dict[str, str], notes: Sequence[str]) -> list[Path]:
    """Write results.json and results.md to a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine, "notes": list(notes), "rows": [row.record() for row in rows]}
    paths = [folder / "results.json", folder / "results.md"]
    write_text(paths[0], json.dumps(record, indent=1) + "\n")
    write_text(paths[1], markdown(rows, machine, notes))
    return paths
