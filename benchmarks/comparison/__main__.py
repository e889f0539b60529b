"""`python -m benchmarks.comparison [TASK ...]`: make the runs that are missing, store them, write the page."""

from atbptt.interrupts import end_silently

if __name__ == "__main__":
    end_silently()

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from analysis.loading import Results, compact
from atbptt.errors import listed, require_choice
from atbptt.runs.schema import METRICS, OPTIONS
from atbptt.system import Parser, handled, print_text, run_command
from benchmarks.comparison.data import check_data, make_small_ptb
from benchmarks.comparison.page import write_page
from benchmarks.comparison.rounds import OUTPUTS, RunsMissingError, run_all, run_name
from benchmarks.comparison.tasks import SCHEMES, TASKS

RESULTS = Path("results/comparison")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes as in `run_command`."""

    def command() -> None:
        names = _parser().parse_args(arguments).task
        for name in names:
            require_choice("task", name, TASKS)
        for name in names or TASKS:
            check_data(name)  # rather than after hours
        with handled({signal.SIGTERM: signal.default_int_handler}):
            for name in names or TASKS:
                _compare(name)
                write_page(TASKS.values(), RESULTS)

    return run_command(command, RunsMissingError)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m benchmarks.comparison",
        description="Compares all policies, each at its best learning rate, and writes docs/comparison.md. It takes "
        "hours and continues where it ended: runs of outputs/comparison/ are not repeated, nor are tasks that are in "
        "results/comparison/. To run one anew, delete its folder there.",
    )
    parser.add_argument("task", nargs="*", metavar="TASK", help=f"{listed(TASKS)} (default: all)")
    return parser


def _compare(name: str) -> None:
    task = TASKS[name]
    for scheme in SCHEMES:
        folder = RESULTS / run_name(task, scheme)
        if folder.exists():
            continue
        if name == "ptb":
            make_small_ptb()
        run_all(task, scheme, lambda line: print_text(f"{time.strftime('%H:%M')} {line}", flush=True))
        _store(OUTPUTS / folder.name, folder)


def _store(runs: Path, folder: Path) -> None:
    """Options and metrics of the runs, in a folder that appears when both are whole."""
    temporary = folder.with_name(f".{folder.name}")
    for path in compact(Results(runs), temporary):
        if path.name not in (OPTIONS, METRICS):  # the profiles by lag are twenty times as large
            path.unlink()
    temporary.replace(folder)


if __name__ == "__main__":
    sys.exit(main())
