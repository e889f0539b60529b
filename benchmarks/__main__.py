"""`python -m benchmarks [PART ...]`: measure, print the table and store it in outputs/benchmarks/."""

from atbptt.interrupts import end_silently

if __name__ == "__main__":
    end_silently()

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from atbptt.errors import listed, require_choice
from atbptt.system import Console, Parser, run_command
from atbptt.training import check_device, configure_torch
from benchmarks import launchers, launching, loading, probes, sweep, training
from benchmarks.floor import matrix_speed
from benchmarks.machine import machine
from benchmarks.report import WIDTH, Row, one_line, print_table, save

PARTS: dict[str, Callable[[torch.device, float], Iterator[Row]]] = {
    "probe": probes.rows,
    "training": training.rows,
    "sweep": sweep.rows,
    "launchers": launchers.rows,
    "launching": launching.rows,
    "loading": loading.rows,
}
DEVICES = ("cpu", "cuda")
OUTPUT = Path("outputs/benchmarks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named parts, or all; exit codes as in `run_command`."""

    def command() -> None:
        options = _parser().parse_args(arguments)
        for part in options.part:
            require_choice("part", part, PARTS)
        require_choice("--device", options.device, DEVICES)
        check_device(options.device)
        _run(options.part or list(PARTS), torch.device(options.device), _console())

    return run_command(command)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks", description="Measures time and memory, compared with plain baselines.")
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{listed(PARTS)} (default: all)")
    parser.add_argument("--device", default="cpu", metavar="D", help=f"{listed(DEVICES)} (default: cpu)")
    return parser


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def _run(parts: Sequence[str], device: torch.device, console: Console) -> None:
    began = time.monotonic()
    configure_torch(threads=1)
    speed = matrix_speed(device)
    rows: list[Row] = []
    notes: list[str] = []
    for part in parts:
        try:
            for row in PARTS[part](device, speed):
                rows.append(row)
                line = f"{time.monotonic() - began:4.0f} s  {one_line(row)}"
                console.print(line, soft_wrap=True)
        except sweep.SkippedError as reason:
            notes.append(f"{part} left out: {reason}")
    notes.append(f"measured in {time.monotonic() - began:.0f} s")
    described = machine(device, speed)
    console.print()
    print_table(rows, described, notes, console)
    for path in save(OUTPUT, rows, described, notes):
        console.print(str(path))


if __name__ == "__main__":
    sys.exit(main())
